//! A node that does what its test says: what those of several test binaries have in common.

#![allow(dead_code, reason = "each test binary uses a part")]

use std::{cell::RefCell, collections::HashMap, fmt::Display, rc::Rc};

use actix::prelude::*;
use shmbus::{Bound, prelude::*};

use crate::support::peers;

/// Travels in its slot.
#[derive(ShmMessage, Debug)]
#[shm(reply = u64)]
pub struct Ping {
    pub n: u64,
}

/// Travels in a buffer of the pool or in a segment of its own, and so does its reply, which is the same.
#[derive(ShmMessage, Debug)]
#[shm(reply = Vec<u8>)]
pub struct Blob {
    pub data: Vec<u8>,
}

/// Travels in its slot; the reply has so many bytes.
#[derive(ShmMessage, Debug)]
#[shm(reply = Vec<u8>)]
pub struct Fetch {
    pub len: u64,
}

/// The reply has so many bytes, in memory that was lent for the asker before this one.
#[derive(ShmMessage, Debug)]
#[shm(reply = Drawn)]
pub struct Draw {
    pub len: u64,
}

#[derive(ShmMessage, Debug)]
pub struct Drawn {
    pub data: Bulk,
}

/// Kept by the actor until its test says `release`.
#[derive(ShmMessage, Debug)]
pub struct Keep {
    pub data: Vec<u8>,
}

#[derive(Default, Clone)]
struct Service {
    kept: Rc<RefCell<Vec<Received<Keep>>>>,
    drawn: Rc<RefCell<Option<Bulk>>>,
}

impl Actor for Service {
    type Context = Context<Self>;
}

impl Handler<Received<Ping>> for Service {
    type Result = u64;
    fn handle(&mut self, ping: Received<Ping>, _: &mut Context<Self>) -> u64 {
        ping.n.to_native() + 1
    }
}

impl Handler<Received<Blob>> for Service {
    type Result = MessageResult<Received<Blob>>;
    fn handle(&mut self, blob: Received<Blob>, _: &mut Context<Self>) -> Self::Result {
        MessageResult(blob.data.to_vec())
    }
}

impl Handler<Received<Fetch>> for Service {
    type Result = MessageResult<Received<Fetch>>;
    fn handle(&mut self, fetch: Received<Fetch>, _: &mut Context<Self>) -> Self::Result {
        MessageResult(bytes(fetch.len.to_native() as usize))
    }
}

impl Handler<Received<Draw>> for Service {
    type Result = MessageResult<Received<Draw>>;
    fn handle(&mut self, draw: Received<Draw>, _: &mut Context<Self>) -> Self::Result {
        let bytes = bytes(draw.len.to_native() as usize);
        let mut loan = draw.reply_loan(bytes.len());
        loan.copy_from_slice(&bytes);
        let before = self.drawn.borrow_mut().replace(loan.into());
        MessageResult(Drawn {
            data: before
                .filter(|data| data.len() == bytes.len())
                .unwrap_or(bytes.into()),
        })
    }
}

impl Handler<Received<Keep>> for Service {
    type Result = ();
    fn handle(&mut self, keep: Received<Keep>, _: &mut Context<Self>) {
        self.kept.borrow_mut().push(keep);
    }
}

/// Bytes that differ by place.
fn bytes(len: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..=u8::MAX).collect();
    bytes = bytes.repeat(len / bytes.len() + 1);
    bytes.truncate(len);
    bytes
}

/// A message of so many bytes that is kept.
pub fn keep(len: usize) -> Keep {
    Keep { data: vec![7; len] }
}

/// `ok`, or what went wrong.
pub fn said<T>(outcome: Result<T, impl Display>) -> String {
    match outcome {
        Ok(_) => "ok".into(),
        Err(error) => error.to_string(),
    }
}

/// Whether it is right, or what went wrong.
fn judged<T>(outcome: Result<T, impl Display>, is_right: impl FnOnce(&T) -> bool) -> String {
    match outcome {
        Ok(value) => is_right(&value).to_string(),
        Err(error) => error.to_string(),
    }
}

/// All that its actors take.
pub type Services = (Ping, Blob, Keep, Fetch, Draw);

/// Its actors, its addresses, and what it keeps.
pub struct Node {
    config: Config,
    bus: Option<Bus>,
    bound: Vec<Bound<Service>>,
    pub addresses: HashMap<String, Address<Services>>,
    service: Service,
}

impl Node {
    /// Joins with these settings when it is told to.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            bus: None,
            bound: Vec::new(),
            addresses: HashMap::new(),
            service: Service::default(),
        }
    }

    pub fn bus(&self) -> &Bus {
        self.bus.as_ref().expect("joined")
    }

    /// Does what a line says whose words these are, and answers it.
    pub async fn obey(&mut self, command: &str, name: &str, number: usize) -> String {
        match command {
            "join" => {
                let joined = self.config.clone().join().await;
                said(joined.map(|bus| self.bus = Some(bus)))
            }
            "leave" => {
                self.addresses.clear();
                self.bound.clear();
                self.bus.take().expect("joined").leave().await;
                "ok".into()
            }
            "peers" => peers(self.bus()).join(" "),
            // One of its counters.
            "stat" => {
                let stats = format!("{:?} ", self.bus().stats());
                let of = format!("{name}: ");
                let at = stats.find(&of).expect("a count") + of.len();
                stats[at..].split([',', ' ']).next().expect("a number").to_owned()
            }
            "bind" => {
                let bind = self.bus().bind(name, self.service.clone());
                let bind = bind.handles::<Ping>().handles::<Blob>();
                let bind = bind.handles::<Keep>().handles::<Fetch>();
                let bound = bind.handles::<Draw>().start().await;
                said(bound.map(|bound| self.bound.push(bound)))
            }
            "unbind" => {
                let at = self.bound.iter().position(|known| known.name() == name);
                self.bound.swap_remove(at.expect("bound")).unbind();
                "ok".into()
            }
            "open" => {
                let opened = self.bus().address(name).await;
                said(opened.map(|address| self.addresses.insert(name.to_owned(), address)))
            }
            "ping" => said(self.addresses[name].ask(&Ping { n: 1 }).await),
            // Many by one call; answers whether all replies are right.
            "pings" => {
                let pings: Vec<_> = (0..number as u64).map(|n| Ping { n }).collect();
                let mut replies = self.addresses[name].ask_all(&pings);
                for ping in &pings {
                    match replies.next().await {
                        Some(Ok(reply)) if *reply == ping.n + 1 => {}
                        other => return format!("{other:?}"),
                    }
                }
                replies.next().await.is_none().to_string()
            }
            // Answers whether the reply is right.
            "blob" => {
                let data = bytes(number);
                let reply = self.addresses[name].ask(&Blob { data: data.clone() }).await;
                judged(reply, |reply| reply.as_slice() == data)
            }
            // The same of a reply that is so long.
            "fetch" => {
                let fetch = Fetch { len: number as u64 };
                let reply = self.addresses[name].ask(&fetch).await;
                judged(reply, |reply| reply.as_slice() == bytes(number))
            }
            "draw" => {
                let reply = self.addresses[name].ask(&Draw { len: number as u64 }).await;
                judged(reply, |reply| *reply.data == *bytes(number))
            }
            "keep" => said(self.addresses[name].tell(&keep(number)).await),
            "try_keep" => said(self.addresses[name].try_tell(&keep(number))),
            "kept" => self.service.kept.borrow().len().to_string(),
            // Whether everything that is kept is as it was sent.
            "right" => {
                let right =
                    |kept: &Received<Keep>| !kept.data.is_empty() && kept.data.iter().all(|b| *b == 7);
                self.service.kept.borrow().iter().all(right).to_string()
            }
            "release" => {
                self.service.kept.borrow_mut().clear();
                "ok".into()
            }
            other => panic!("unknown command {other}"),
        }
    }
}
