//! The page at `/`: it has all that it needs, and a browser runs nothing else.

use super::World;

#[tokio::test]
async fn the_page_loads_nothing_from_elsewhere_and_is_what_its_policy_allows() {
    let gateway = World::sqlite().await.gateway().await;
    let answer = gateway.client().get("/").await.expect(200);
    assert_eq!(answer.header("content-type"), Some("text/html; charset=utf-8"));
    let policy = answer.header("content-security-policy").unwrap().to_owned();
    for part in [
        "default-src 'none'",
        "connect-src 'self'",
        "frame-ancestors 'none'",
        "script-src 'sha256-",
        "style-src 'sha256-",
    ] {
        assert!(policy.contains(part), "{policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
    let page = String::from_utf8(answer.body).unwrap();
    for foreign in [
        "http:",
        "https:",
        "//",
        "src=",
        "@import",
        "url(",
        " style=",
        " onclick=",
        "innerHTML",
        "localStorage",
    ] {
        // Comments of the script are its only slashes.
        let mut lines = page
            .lines()
            .map(str::trim_start)
            .filter(|line| !line.starts_with("// "));
        let line = lines.find(|line| line.contains(foreign));
        assert_eq!(line, None, "{foreign}");
    }
    for element in ["script", "style"] {
        assert_eq!(page.matches(&format!("<{element}")).count(), 1, "{element}");
    }
}
