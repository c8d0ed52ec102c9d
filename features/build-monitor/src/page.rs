//! The newest builds over HTTP: JSON for programs, and a page for people. Both are open to everybody who reaches the port.
//!
//! Everything in a build comes from outside. The template escapes it, only http and https addresses become links, and the
//! page may load and run nothing: its style is inline, allowed by its hash.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use base64::{Engine, prelude::BASE64_STANDARD};
use jiff::Timestamp;
use minijinja::{Environment, value::Serde};
use parking_lot::Mutex;
use runtime::{Clock, SystemClock, error_chain};
use serde::Serialize;
use sha2::{Digest, Sha256};
use thiserror::Error;
use tracing::error;
use url::Url;

use crate::{
    BuildFinished,
    latest::{Latest, readable},
};

const TEMPLATE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");

/// A page that cannot be made.
#[derive(Debug, Error)]
pub enum PageError {
    /// The template is faulty.
    #[error("cannot render the page of the newest builds")]
    Template(#[from] minijinja::Error),
    /// The policy is not a valid header.
    #[error("cannot make the content security policy of the page")]
    Policy(#[from] header::InvalidHeaderValue),
    /// The builds cannot be written as JSON.
    #[error("cannot write the newest builds as JSON")]
    Json(#[from] serde_json::Error),
}

/// `/` serves what the client prefers of `/builds.json` and `/builds.html`. `/metrics` serves the metrics of this process.
pub fn routes(latest: Arc<Latest>) -> Result<Router, PageError> {
    let page = Arc::new(Page::new(latest)?);
    let hash = BASE64_STANDARD.encode(Sha256::digest(STYLE));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{hash}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    let policy = HeaderValue::try_from(policy)?;
    Ok(Router::new()
        .route("/", get(preferred))
        .route("/builds.json", get(json))
        .route("/builds.html", get(html))
        .route("/metrics", get(async || observe::metrics::render()))
        .layer(middleware::from_fn_with_state(
            policy,
            with_security_headers,
        ))
        .with_state(page))
}

struct Page {
    latest: Arc<Latest>,
    templates: Environment<'static>,
    /// The start of this process.
    since: Timestamp,
    json: Cached,
    html: Cached,
}

/// A body, kept until a build changes: there may be many requests, and making one takes all builds.
#[derive(Default)]
struct Cached(Mutex<Option<(u64, Bytes)>>);

impl Cached {
    fn get(
        &self,
        latest: &Latest,
        make: impl FnOnce() -> Result<Bytes, PageError>,
    ) -> Result<Bytes, PageError> {
        // Requests that arrive while it is made wait for it.
        let mut cached = self.0.lock();
        // Read before the builds: a change in between is in the body, which is then made once more.
        let version = latest.version();
        if let Some((made, body)) = &*cached
            && *made == version
        {
            return Ok(body.clone());
        }
        let body = make()?;
        *cached = Some((version, body.clone()));
        Ok(body)
    }
}

impl Page {
    fn new(latest: Arc<Latest>) -> Result<Self, PageError> {
        let mut templates = Environment::new();
        // The name makes it HTML, so that values are escaped.
        templates.add_template("page.html", TEMPLATE)?;
        Ok(Self {
            latest,
            templates,
            since: SystemClock.now(),
            json: Cached::default(),
            html: Cached::default(),
        })
    }

    fn json(&self) -> Result<Bytes, PageError> {
        self.json.get(&self.latest, || {
            Ok(serde_json::to_vec(&self.latest.nested())?.into())
        })
    }

    fn html(&self) -> Result<Bytes, PageError> {
        self.html.get(&self.latest, || {
            let trees = self.latest.nested().into_iter().map(|(name, platforms)| {
                let builds = platforms
                    .into_values()
                    .flat_map(BTreeMap::into_values)
                    .map(Row::from)
                    .collect();
                Tree { name, builds }
            });
            let since = self.since.strftime("%Y-%m-%d %H:%M:%S").to_string();
            let values = Serde(Shown {
                style: STYLE,
                trees: trees.collect(),
                since,
            });
            Ok(self
                .templates
                .get_template("page.html")?
                .render(values)?
                .into())
        })
    }
}

/// The values of the template.
#[derive(Serialize)]
struct Shown {
    style: &'static str,
    trees: Vec<Tree>,
    since: String,
}

/// A tree with its builds.
#[derive(Serialize)]
struct Tree {
    name: String,
    builds: Vec<Row>,
}

/// A build as the page shows it.
#[derive(Serialize)]
struct Row {
    platform: String,
    build_type: String,
    product: Option<String>,
    tags: String,
    buildid: Option<String>,
    finished: String,
    build: Option<String>,
    tests: Option<String>,
}

async fn preferred(State(page): State<Arc<Page>>, headers: HeaderMap) -> Response {
    let accepted: Vec<_> = headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .collect();
    let mut response = if prefers_html(&accepted.join(",")) {
        html(State(page)).await
    } else {
        json(State(page)).await
    };
    response
        .headers_mut()
        .insert(header::VARY, HeaderValue::from_static("accept"));
    response
}

async fn json(State(page): State<Arc<Page>>) -> Response {
    respond("application/json", page.json())
}

async fn html(State(page): State<Arc<Page>>) -> Response {
    respond("text/html; charset=utf-8", page.html())
}

fn respond(kind: &'static str, body: Result<Bytes, PageError>) -> Response {
    match body {
        Ok(body) => ([(header::CONTENT_TYPE, kind)], body).into_response(),
        Err(error) => {
            error!(
                error = error_chain(&error),
                "cannot serve the newest builds"
            );
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

async fn with_security_headers(
    State(policy): State<HeaderValue>,
    request: axum::extract::Request,
    next: Next,
) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-cache"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

impl From<BuildFinished> for Row {
    fn from(build: BuildFinished) -> Self {
        Self {
            finished: readable(&build.timestamp),
            build: build.buildurl.filter(|url| is_web(url)),
            tests: build.testsurl.filter(|url| is_web(url)),
            platform: build.platform,
            build_type: build.buildtype,
            product: build.product,
            tags: build.tags.join(", "),
            buildid: build.buildid,
        }
    }
}

/// Whether a link to it is safe.
fn is_web(url: &str) -> bool {
    Url::parse(url).is_ok_and(|url| matches!(url.scheme(), "http" | "https"))
}

/// Whether an `Accept` header prefers HTML to JSON. `*/*` gets JSON.
fn prefers_html(accept: &str) -> bool {
    quality(accept, ("text", "html")) > quality(accept, ("application", "json"))
}

/// The quality of a media type in thousandths, by the most specific range that holds it.
fn quality(accept: &str, (kind, subtype): (&str, &str)) -> u32 {
    let mut best = (0, 0);
    for range in accept.split(',') {
        let mut parts = range.split(';').map(str::trim);
        let (name, other) = parts
            .next()
            .and_then(|range| range.split_once('/'))
            .unwrap_or_default();
        let specific = match (name, other) {
            ("*", "*") => 1,
            (name, "*") if name.eq_ignore_ascii_case(kind) => 2,
            (name, other)
                if name.eq_ignore_ascii_case(kind) && other.eq_ignore_ascii_case(subtype) =>
            {
                3
            }
            _ => continue,
        };
        let weight =
            parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
        let weight = weight
            .map_or(1.0, |weight| weight.parse::<f32>().unwrap_or(0.0))
            .clamp(0.0, 1.0);
        if specific > best.0 {
            best = (specific, (weight * 1000.0) as u32);
        }
    }
    best.1
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn page_is_rendered_once_for_each_change() {
        let latest = Arc::new(Latest::default());
        let page = Page::new(Arc::clone(&latest)).unwrap();
        let build = |date: i64| {
            let build = json!({
                "tree": "try", "branch": "try", "platform": "linux64", "buildtype": "opt", "tags": [], "key": "k",
                "timestamp": "20261121025554", "buildurl": format!("http://builds.example/{date}"), "builddate": date,
            });
            latest.note(&serde_json::from_value(build).unwrap());
        };
        type Body = fn(&Page) -> Result<Bytes, PageError>;
        let bodies: [Body; 2] = [Page::json, Page::html];
        for (body, date) in bodies.into_iter().zip([20_001, 30_001]) {
            let body = || body(&page).unwrap();
            let holds = |date: i64| {
                String::from_utf8(body().to_vec())
                    .unwrap()
                    .contains(&date.to_string())
            };
            let before = body();
            assert_eq!(before.as_ptr(), body().as_ptr());
            build(date);
            assert!(!before.is_empty() && holds(date));
            let after = body();
            // An older build changes nothing.
            build(1);
            assert_eq!(after.as_ptr(), body().as_ptr());
            build(date + 1);
            assert!(holds(date + 1) && !holds(date));
        }
    }

    #[test]
    fn browsers_get_page_and_programs_get_json() {
        for (accept, expected) in [
            ("", false),
            ("*/*", false),
            ("application/json", false),
            (
                "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8",
                true,
            ),
            ("text/html", true),
            ("text/*, application/json;q=0.5", true),
            ("text/html;q=0.4, application/json;q=0.5", false),
            ("TEXT/HTML;level=1;Q=0.9, */*;q=0.1", true),
            ("text/html;q=0", false),
            ("text/html;q=nonsense", false),
        ] {
            assert_eq!(prefers_html(accept), expected, "{accept}");
        }
    }

    #[test]
    fn only_http_addresses_become_links() {
        for (url, expected) in [
            ("https://archive.mozilla.org/pub/x.zip", true),
            ("http://ftp.mozilla.org/x", true),
            ("javascript:alert(1)", false),
            ("JavaScript:alert(1)", false),
            ("data:text/html,x", false),
            ("//evil.example/x", false),
            ("x", false),
        ] {
            assert_eq!(is_web(url), expected, "{url}");
        }
    }
}
