//! Who calls: the keys that are set, or else what AWS's own search finds.
//!
//! The search is that of `aws-config`, over the HTTP client that everything here uses: a profile (`AWS_PROFILE`,
//! `~/.aws/credentials`), a web identity (EKS), a container's role (ECS), an instance's (EC2). It begins with the first
//! call and happens once; what it found is renewed before it ends, and when a service does not accept it.

use std::{sync::Arc, time::Duration};

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::{Credentials, provider::ProvideCredentials};
use aws_smithy_runtime_api::{
    client::{
        http::{
            HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings,
            SharedHttpConnector,
        },
        orchestrator::{HttpRequest, HttpResponse},
        result::ConnectorError,
        runtime_components::RuntimeComponents,
    },
    http::StatusCode,
};
use aws_smithy_types::body::SdkBody;
use http_client::HttpError;
use jiff::Timestamp;
use reqwest::Method;
use runtime::Clock;
use tokio::sync::Mutex;

/// How long before its end a credential is renewed.
const EARLY: Duration = Duration::from_secs(300);

/// Who calls.
pub(super) enum Identity {
    /// The credentials of the settings.
    Set(Credentials),
    /// The credentials that the search finds.
    Found(Box<Search>),
}

/// A search for credentials.
pub(super) struct Search {
    http: reqwest::Client,
    region: Option<String>,
    clock: Arc<dyn Clock>,
    found: Mutex<Found>,
}

#[derive(Default)]
struct Found {
    config: Option<SdkConfig>,
    credentials: Option<Credentials>,
}

impl Search {
    /// `region` is what is set, so that none is looked for.
    pub(super) fn new(
        http: reqwest::Client,
        region: Option<String>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            http,
            region,
            clock,
            found: Mutex::default(),
        }
    }

    async fn config<'a>(&self, found: &'a mut Found) -> &'a SdkConfig {
        if found.config.is_none() {
            let mut loader = aws_config::defaults(BehaviorVersion::latest())
                .http_client(Http(self.http.clone()));
            if let Some(region) = &self.region {
                loader = loader.region(Region::new(region.clone()));
            }
            let config = loader.load().await;
            return found.config.insert(config);
        }
        found
            .config
            .get_or_insert_with(|| SdkConfig::builder().build())
    }

    fn is_fresh(&self, credentials: &Credentials) -> bool {
        let end = credentials
            .expiry()
            .and_then(|end| Timestamp::try_from(end).ok());
        end.is_none_or(|end| {
            end.duration_since(self.clock.now()).unsigned_abs() > EARLY && end > self.clock.now()
        })
    }
}

impl Identity {
    /// The credentials to sign with, or why there are none.
    pub(super) async fn credentials(&self) -> Result<Credentials, String> {
        let search = match self {
            Self::Set(credentials) => return Ok(credentials.clone()),
            Self::Found(search) => search,
        };
        let mut found = search.found.lock().await;
        if let Some(credentials) = found
            .credentials
            .as_ref()
            .filter(|held| search.is_fresh(held))
        {
            return Ok(credentials.clone());
        }
        let provider = search.config(&mut found).await.credentials_provider();
        let provider = provider.ok_or_else(|| "nothing can be searched".to_owned())?;
        let credentials = provider
            .provide_credentials()
            .await
            .map_err(|error| runtime::error_chain(&error))?;
        found.credentials = Some(credentials.clone());
        Ok(credentials)
    }

    /// The region that the search finds.
    pub(super) async fn region(&self) -> Option<String> {
        let Self::Found(search) = self else {
            return None;
        };
        let mut found = search.found.lock().await;
        search
            .config(&mut found)
            .await
            .region()
            .map(|region| region.as_ref().to_owned())
    }

    /// A service does not accept what was found.
    pub(super) async fn forget(&self) {
        if let Self::Found(search) = self {
            search.found.lock().await.credentials = None;
        }
    }
}

/// Our client, for the search.
#[derive(Debug, Clone)]
struct Http(reqwest::Client);

impl HttpClient for Http {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        _: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(Connector {
            http: self.0.clone(),
            timeout: settings.read_timeout(),
        })
    }
}

#[derive(Debug)]
struct Connector {
    http: reqwest::Client,
    timeout: Option<Duration>,
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let (http, timeout) = (self.http.clone(), self.timeout);
        HttpConnectorFuture::new(async move {
            let method = Method::from_bytes(request.method().as_bytes());
            let method = method.map_err(|error| ConnectorError::user(error.into()))?;
            let mut call = http.request(method, request.uri());
            for (name, value) in request.headers() {
                call = call.header(name, value);
            }
            if let Some(timeout) = timeout {
                call = call.timeout(timeout);
            }
            let body = request.body().bytes().unwrap_or_default().to_vec();
            let response = super::send(call.body(body)).await.map_err(failed)?;
            let status = StatusCode::try_from(response.status.as_u16());
            let status = status.map_err(|error| ConnectorError::other(error.into(), None))?;
            let mut answer = HttpResponse::new(status, SdkBody::from(response.body));
            for (name, value) in &response.headers {
                if let Ok(value) = value.to_str() {
                    let _ = answer
                        .headers_mut()
                        .try_append(name.as_str().to_owned(), value.to_owned());
                }
            }
            Ok(answer)
        })
    }
}

fn failed(error: HttpError) -> ConnectorError {
    match error {
        HttpError::TimedOut(cause) => ConnectorError::timeout(cause.into()),
        HttpError::Unreachable(cause) if cause.is_timeout() => {
            ConnectorError::timeout(cause.into())
        }
        HttpError::Unreachable(cause) => ConnectorError::io(cause.into()),
        error => ConnectorError::io(error.into()),
    }
}
