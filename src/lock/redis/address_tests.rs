use super::*;

fn one(url: &str) -> (String, RedisConnectionInfo, String) {
    let address = Address::parse(url).unwrap_or_else(|error| panic!("{url}: {error}"));
    let Servers::One(server) = address.servers else {
        panic!("{url} is one server");
    };
    let scheme = if matches!(server.addr(), redis::ConnectionAddr::TcpTls { .. }) {
        "tls "
    } else {
        ""
    };
    (
        format!("{scheme}{}", server.addr()),
        server.redis_settings().clone(),
        address.prefix,
    )
}

#[test]
fn reads_one_server() {
    let (address, settings, prefix) = one("redis://localhost");
    assert_eq!(
        (address.as_str(), settings.db(), prefix.as_str()),
        ("localhost:6379", 0, "fencegate/locks")
    );
    let (address, settings, prefix) = one("rediss://me:p%40ss%2F@[::1]:7000/3?prefix=/a/b/");
    assert_eq!(
        (address.as_str(), settings.db(), prefix.as_str()),
        ("tls ::1:7000", 3, "a/b")
    );
    assert_eq!(
        (settings.username(), settings.password()),
        (Some("me"), Some("p@ss/"))
    );
}

#[test]
fn reads_sentinels() {
    let url = "redis+sentinel://:secret@a,b:26380,[::1]/main/2?sentinel_password=other&prefix=p";
    let Servers::Sentinel {
        sentinels,
        master,
        tls,
        credentials,
    } = Address::parse(url).unwrap().servers
    else {
        panic!("sentinels");
    };
    let addresses: Vec<_> = sentinels
        .iter()
        .map(|sentinel| sentinel.addr().to_string())
        .collect();
    assert_eq!(addresses, ["a:26379", "b:26380", "::1:26379"]);
    assert!(
        sentinels
            .iter()
            .all(|sentinel| sentinel.redis_settings().password() == Some("other"))
    );
    assert_eq!((master.as_str(), tls.is_some()), ("main", false));
    assert_eq!((credentials.password(), credentials.db()), (Some("secret"), 2));
}

#[test]
fn reads_redlocks() {
    let Servers::Many(servers) = Address::parse("redlocks://u:p@a,b,c:1/1").unwrap().servers else {
        panic!("many");
    };
    let addresses: Vec<_> = servers.iter().map(|server| server.addr().to_string()).collect();
    assert_eq!(addresses, ["a:6379", "b:6379", "c:1"]);
    assert!(
        servers
            .iter()
            .all(|server| server.redis_settings().username() == Some("u"))
    );
}

#[test]
fn says_what_is_wrong_and_never_the_password() {
    for (url, expected) in [
        ("redis", AddressError::Scheme),
        ("http://:hunter2@a", AddressError::Scheme),
        ("redis://:hunter2@", AddressError::Host),
        ("redis://:hunter2@a:99999", AddressError::Host),
        ("redis://:hunter2@a/locks", AddressError::Database),
        ("redis://:hunter2@a/0/locks", AddressError::Database),
        ("redis://:hunter2@a,b", AddressError::Several),
        ("redis://:hunter2@a#insecure", AddressError::Fragment),
        ("redis://:hunter2@a?prefix=", AddressError::Prefix),
        ("redis://:hunter2@a?prefix=a//b", AddressError::Prefix),
        (
            "redis://:hunter2@a?timeout=1s",
            AddressError::Parameter("timeout".into()),
        ),
        ("redis+sentinel://:hunter2@a,b", AddressError::Master),
        ("redlock://:hunter2@a", AddressError::Instances(1)),
        ("redlock://:hunter2@a,b", AddressError::Instances(2)),
        ("redlock://:hunter2@a,b,c,d", AddressError::Instances(4)),
        (
            "redlock://:hunter2@a,b,a:6379",
            AddressError::Twice("a:6379".into()),
        ),
    ] {
        let error = Address::parse(url).map(|_| ()).expect_err(url);
        assert_eq!(error, expected, "{url}");
        assert!(!error.to_string().contains("hunter2"));
    }
}
