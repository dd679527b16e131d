//! What the members of the cluster say of themselves.

use futures::future::join_all;

use super::{
    super::servers::{Facts, Server},
    EtcdLocks,
    client::Client,
};
use crate::lock::LockError;

impl EtcdLocks {
    /// Each of the addresses by itself: one that is down, or old, is not hidden behind the others.
    pub(super) async fn ask_servers(&self) -> Vec<Server> {
        let asked = self.client.addresses().iter().map(async |address| {
            let facts = match Client::connect(&format!("etcd://{address}")).await {
                Ok(client) => facts(&client).await,
                Err(error) => Err(error),
            };
            Server::new(address, facts)
        });
        join_all(asked).await
    }
}

async fn facts(client: &Client) -> Result<Facts, LockError> {
    let status = client.status().await?;
    let mut facts = Facts {
        version: Some(status.version().to_owned()),
        counter: status.header().map(|header| header.revision()),
        ..Facts::default()
    };
    let mut set = |name, value: String| facts.settings.insert(name, value);
    set("leader", (status.leader() != 0).to_string());
    set("learner", status.is_learner().to_string());
    // Neither needs a leader, but both may need rights that a lock's user has not.
    if let Ok(members) = client.members().await {
        set("members", members.to_string());
    }
    if let Ok(alarms) = client.alarms().await {
        set("alarms", alarms.join(","));
    }
    Ok(facts)
}
