//! The page with the newest builds.

use super::*;

pub(super) async fn newest_builds_are_served(world: &World) {
    let mut process = world
        .monitor("served", &["--tree", "*", "--serve", "0"])
        .await;
    let url = format!("http://{}", process.address().await);
    let http = http_client::client(Duration::from_secs(20)).unwrap();
    let get = async |path: &str, accept: &str| {
        let request = http.get(format!("{url}{path}")).header("accept", accept);
        let sent = http_client::send(request, Limits::body(usize::MAX));
        let response = sent.await.unwrap();
        let body = String::from_utf8_lossy(&response.body).into_owned();
        let header = move |name: &str| {
            response
                .headers
                .get(name)
                .map(|value| value.to_str().unwrap().to_owned())
                .unwrap_or_default()
        };
        (header, body)
    };
    let (_, page) = get("/", "text/html").await;
    assert!(page.contains("No build has finished since then."), "{page}");

    for (number, date) in [(1, 100), (3, 300), (2, 200)] {
        let url = format!("http://builds.example/{number}.zip");
        world
            .publish_build(
                "mozilla-central",
                "win32",
                json!({ "buildurl": url, "builddate": date }),
            )
            .await;
    }
    let hostile = json!({
        "buildurl": "javascript:alert(1)", "testsurl": "https://x.example/\"onmouseover=\"alert(1)", "buildid": HOSTILE,
        "product": HOSTILE, "tags": [HOSTILE], "key": HOSTILE,
    });
    world
        .publish_build(HOSTILE, "\"'><img src=x>", hostile)
        .await;
    until("all builds", &process, || {
        world.read("served").lines().count() == 4
    })
    .await;

    let (header, json) = get("/", "*/*").await;
    assert_eq!(
        (header("content-type").as_str(), header("vary").as_str()),
        ("application/json", "accept")
    );
    let builds: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        builds["mozilla-central"]["win32"]["opt"]["buildurl"],
        "http://builds.example/3.zip"
    );
    assert_eq!(
        builds[HOSTILE]["\"'><img src=x>"]["opt"]["buildurl"],
        "javascript:alert(1)"
    );
    assert_eq!(get("/builds.json", "text/html").await.1, json);

    let (header, page) = get("/", "text/html,application/xhtml+xml,*/*;q=0.8").await;
    assert_eq!(header("content-type"), "text/html; charset=utf-8");
    assert!(
        page.contains("<a href=\"http:&#x2f;&#x2f;builds.example&#x2f;3.zip\""),
        "{page}"
    );
    for harmful in ["<script", "<img", "javascript:", "\"onmouseover"] {
        assert!(!page.contains(harmful), "{harmful}: {page}");
    }
    assert!(
        page.contains("&lt;script&gt;alert(1)&lt;&#x2f;script&gt;"),
        "{page}"
    );
    for (name, expected) in [
        (
            "content-security-policy",
            "default-src 'none'; style-src 'sha256-",
        ),
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "no-referrer"),
        ("cache-control", "no-cache"),
    ] {
        assert!(
            header(name).starts_with(expected),
            "{name}: {}",
            header(name)
        );
    }
    assert!(
        get("/builds.html", "*/*")
            .await
            .1
            .contains("<caption>mozilla-central</caption>")
    );
    let (_, metrics) = get("/metrics", "*/*").await;
    assert!(
        metrics.contains("build_monitor_accepted_total{label=\"random\"} 4"),
        "{metrics}"
    );
    process.stop().await;
}
