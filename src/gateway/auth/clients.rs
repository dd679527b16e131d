//! The clients file: who the clients are, how they show it, and what they may do.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    hash::Hash,
};

use serde::{Deserialize, Deserializer, de::Error};
use toml::Value;

use super::{
    client::Client,
    key::{self, HashedKey, KeyId},
    rights::Rights,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    clients: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    #[serde(default, deserialize_with = "keys")]
    keys: Vec<HashedKey>,
    /// Names in certificates.
    #[serde(default)]
    certificates: Vec<String>,
    /// `sub` of JWTs.
    #[serde(default)]
    subjects: Vec<String>,
    rights: Rights,
}

/// Never shows what it finds, which may be a key that was written there by mistake.
fn keys<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<HashedKey>, D::Error> {
    let Value::Array(all) = Value::deserialize(deserializer)? else {
        return Err(D::Error::custom("keys is a list of texts"));
    };
    let keys = all.iter().map(|key| match key {
        Value::String(text) => text.parse().map_err(D::Error::custom),
        _ => Err(D::Error::custom("keys is a list of texts")),
    });
    keys.collect()
}

/// The clients of a file, by what they show.
#[derive(Default)]
pub(super) struct Clients {
    names: HashSet<String>,
    keys: HashMap<KeyId, (HashedKey, Client)>,
    certificates: HashMap<String, Client>,
    subjects: HashMap<String, Client>,
}

impl Clients {
    /// Reads the text of a file. An error says what is wrong and where, and shows nothing of the text but names.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let file: File = toml::from_str(text).map_err(|error| {
            let before = error.span().and_then(|span| text.get(..span.start));
            let line = before.map(|before| format!("line {}: ", before.matches('\n').count() + 1));
            format!(
                "{}{}",
                line.unwrap_or_default(),
                error.message().replace('\n', " ")
            )
        })?;
        let mut clients = Self::default();
        for (name, entry) in file.clients {
            clients
                .add(&name, entry)
                .map_err(|error| format!("client {name:?}: {error}"))?;
            clients.names.insert(name);
        }
        Ok(clients)
    }

    fn add(&mut self, name: &str, entry: Entry) -> Result<(), String> {
        let client = Client::new(name, entry.rights).map_err(|error| error.to_string())?;
        for key in entry.keys {
            let id = key.id;
            once(&mut self.keys, id, (key, client.clone()), "a key's id")?;
        }
        for certificate in entry.certificates {
            once(
                &mut self.certificates,
                certificate,
                client.clone(),
                "a name in certificates",
            )?;
        }
        for subject in entry.subjects {
            once(&mut self.subjects, subject, client.clone(), "a subject of JWTs")?;
        }
        Ok(())
    }

    /// Whether a client of the file is called so.
    pub(super) fn has(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// Whose key it is.
    pub(super) fn of_key(&self, key: &str) -> Option<&Client> {
        let (hashed, client) = self.keys.get(&key::id(key)?)?;
        hashed.is_of(key).then_some(client)
    }

    /// Whose certificates have this name in them.
    pub(super) fn of_certificate(&self, name: &str) -> Option<&Client> {
        self.certificates.get(name)
    }

    /// Whose JWTs have this subject.
    pub(super) fn of_subject(&self, subject: &str) -> Option<&Client> {
        self.subjects.get(subject)
    }

    /// Whether certificates are of any use.
    pub(super) fn has_certificates(&self) -> bool {
        !self.certificates.is_empty()
    }
}

/// What is listed for two clients would make one of them the other.
fn once<K: Eq + Hash, V>(of: &mut HashMap<K, V>, key: K, value: V, what: &str) -> Result<(), String> {
    match of.insert(key, value) {
        None => Ok(()),
        Some(_) => Err(format!("{what} is listed twice, here or for another client")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::auth::{Right, key::ApiKey};

    #[test]
    fn a_client_is_found_by_all_that_it_may_show() {
        let keys = [ApiKey::generate().unwrap(), ApiKey::generate().unwrap()];
        let text = format!(
            r#"
            [clients.billing]
            keys = ["{}", "{}"]
            certificates = ["billing.example", "spiffe://example/billing"]
            subjects = ["system:serviceaccount:prod:billing"]
            rights = {{ "invoices:*" = ["write"] }}

            [clients."a name with spaces"]
            rights = {{ }}
            "#,
            keys[0].hashed(),
            keys[1].hashed()
        );
        let clients = Clients::parse(&text).unwrap();
        let fence = "invoices:1".parse().unwrap();
        for found in [
            clients.of_key(keys[0].expose()),
            clients.of_key(keys[1].expose()),
            clients.of_certificate("billing.example"),
            clients.of_certificate("spiffe://example/billing"),
            clients.of_subject("system:serviceaccount:prod:billing"),
        ] {
            let found = found.unwrap();
            assert_eq!(found.name(), "billing");
            assert!(found.may(Right::Write, &fence).is_ok() && found.may(Right::Read, &fence).is_err());
        }
        // What it may show in one way is worth nothing in another.
        assert!(clients.of_certificate("billing").is_none() && clients.of_subject("billing").is_none());
        assert!(clients.of_subject("billing.example").is_none());
        assert!(clients.of_key(ApiKey::generate().unwrap().expose()).is_none());
        let forged = keys[0].expose().replace(
            &keys[0].expose()[21..],
            &ApiKey::generate().unwrap().expose()[21..],
        );
        assert!(key::id(&forged).is_some() && clients.of_key(&forged).is_none());
        assert!(clients.has("a name with spaces") && !clients.has("billing.example"));
    }

    #[test]
    fn errors_say_where_and_show_no_key() {
        let key = ApiKey::generate().unwrap();
        let hashed = key.hashed();
        for (text, said) in [
            (
                format!("[clients.a]\nkeys = [\"{}\"]\nrights = {{}}", key.expose()),
                "line 2",
            ),
            (
                format!("[clients.a]\nrights = {{}}\nkeys = \"{}\"", key.expose()),
                "line 3",
            ),
            (
                "[clients.a]\nrights = {}\nkeis = []".into(),
                "line 3: unknown field `keis`",
            ),
            ("[clients.a]\nkeys = []".into(), "missing field `rights`"),
            ("[client.a]\nrights = {}".into(), "unknown field `client`"),
            (
                "[clients.a]\nrights = { \"x\" = [\"raed\"] }".into(),
                "line 2: unknown variant `raed`, expected one of `lease`, `write`, `read`, `admin`",
            ),
            (
                "[clients.a]\nrights = { \"x*y\" = [\"read\"] }".into(),
                "a star stands at the end",
            ),
            (
                "[clients.anonymous]\nrights = {}".into(),
                "client \"anonymous\": a client's name",
            ),
            ("[clients.\"\"]\nrights = {}".into(), "a client's name"),
            ("[clients.a]\nrights = {}\n[clients.a]\n".into(), "line 3"),
            (
                format!(
                    "[clients.a]\nkeys = [\"{hashed}\"]\nrights = {{}}\n[clients.b]\nkeys = [\"{hashed}\"]\nrights = {{}}"
                ),
                "client \"b\": a key's id is listed twice",
            ),
            (
                "[clients.a]\nsubjects = [\"s\", \"s\"]\nrights = {}".into(),
                "a subject of JWTs is listed twice",
            ),
            ("[clients.a".into(), "line 1"),
        ] {
            let error = Clients::parse(&text).err().unwrap();
            assert!(error.contains(said), "{text}\n{error}");
            assert!(!error.contains(key.expose()) && !error.contains('\n'), "{error}");
        }
        assert!(Clients::parse("").is_ok());
    }
}
