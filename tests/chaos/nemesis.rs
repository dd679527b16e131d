//! Carries a plan out, and puts everything right again.

use rustix::process::{Signal, kill_process};
use tokio::time::{Instant, sleep_until};

use crate::{
    plan::{Act, Plan, Side},
    stage::{Servers, Set},
    support::{
        Postgres, Proxy,
        process::{descendants, pid},
    },
};

/// The processes of clients, which the round starts.
pub trait Clients {
    fn stop(&mut self, which: usize);
    fn wake(&mut self, which: usize);
    /// And another one takes its place.
    fn kill(&mut self, which: usize);
}

pub struct Nemesis<'a, C> {
    pub set: &'a mut Set,
    pub postgres: &'a mut Postgres,
    pub to_postgres: &'a Proxy,
    pub clients: &'a mut C,
    pub seed: u64,
    /// What was stopped or killed of the lock service.
    pub victim: Option<usize>,
}

impl<C: Clients> Nemesis<'_, C> {
    pub async fn run(&mut self, plan: &Plan) {
        let begun = Instant::now();
        for (at, act) in &plan.steps {
            sleep_until(begun + *at).await;
            self.act(*act).await;
        }
        sleep_until(begun + plan.length).await;
    }

    async fn act(&mut self, act: Act) {
        match act {
            Act::StopClients(which) => self.clients.stop(which),
            Act::WakeClients(which) => self.clients.wake(which),
            Act::KillClients(which) => self.clients.kill(which),
            Act::StopGateway(which) => self.set.gateways[which].process.stop(),
            Act::WakeGateway(which) => self.set.gateways[which].process.cont(),
            Act::KillGateway(which) => self.set.gateways[which].process.kill9(),
            Act::StartGateway(which) => self.set.gateways[which].restart().await,
            Act::StopServer(number) => {
                let victim = self.set.servers.victim(number).await;
                self.victim = Some(victim);
                self.set.servers.process(victim).stop();
            }
            Act::WakeServer => {
                if let Some(victim) = self.victim {
                    self.set.servers.process(victim).cont();
                }
            }
            Act::KillServer(number) => {
                let victim = self.set.servers.victim(number).await;
                self.victim = Some(victim);
                self.set.servers.process(victim).kill9();
            }
            Act::StartServer => {
                if let Some(victim) = self.victim {
                    self.set.servers.restart(victim).await;
                }
            }
            Act::Resets(side) => self.proxies(side).iter().for_each(|proxy| proxy.cut()),
            Act::Silence(side) => self.proxies(side).iter().for_each(|proxy| proxy.pause()),
            Act::SilentReplies(side) => self.proxies(side).iter().for_each(|proxy| proxy.pause_replies()),
            Act::Sound(side) => self.proxies(side).iter().for_each(|proxy| proxy.resume()),
            Act::KillStore => self.postgres.kill9(),
            Act::StopStore => {
                self.postgres.process().end_by(Signal::QUIT).await;
            }
            Act::StartStore => self.postgres.restart().await,
            Act::FreezeStore => self.signal_store(Signal::STOP),
            Act::WakeStore => self.signal_store(Signal::CONT),
            Act::Weather(weather) => {
                for (courier, seed) in self.set.couriers.iter().zip(self.seed..) {
                    courier.weather(weather, seed);
                }
            }
        }
    }

    fn proxies(&self, side: Side) -> &[Proxy] {
        match side {
            Side::Locks => &self.set.to_servers,
            Side::Store => std::slice::from_ref(self.to_postgres),
        }
    }

    fn signal_store(&mut self, signal: Signal) {
        let postmaster = self.postgres.process().id();
        if self.postgres.process().ended().is_some() {
            return;
        }
        let _ = kill_process(pid(postmaster), signal);
        for session in descendants(postmaster) {
            let _ = kill_process(pid(session), signal);
        }
    }

    /// Everything is up and gets through again.
    pub async fn heal(&mut self) {
        self.signal_store(Signal::CONT);
        if self.postgres.process().ended().is_some() {
            self.postgres.restart().await;
        }
        self.act(Act::Sound(Side::Store)).await;
        self.act(Act::Sound(Side::Locks)).await;
        self.act(Act::Weather(Default::default())).await;
        for gateway in &mut self.set.gateways {
            match gateway.process.ended() {
                Some(_) => gateway.restart().await,
                None => gateway.process.cont(),
            }
        }
        for which in 0..self.set.servers.count() {
            match self.set.servers.process(which).ended() {
                Some(_) => self.set.servers.restart(which).await,
                None => self.set.servers.process(which).cont(),
            }
        }
        if let Servers::Etcd(cluster) = &mut self.set.servers {
            for member in &mut cluster.members {
                member.ready().await.unwrap();
            }
        }
    }
}
