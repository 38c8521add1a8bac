//! Sessions between nodes: names, handshake, control frames, links, ports.
//!
//! This layer knows tokio and not actix. `shm` and `message` lie below it, `actor` and `topic` above.

pub(crate) mod ask;
pub(crate) mod ask_all;
pub(crate) mod asks;
pub(crate) mod budget;
pub(crate) mod counters;
pub(crate) mod delivery;
pub(crate) mod denial;
pub(crate) mod directory;
pub(crate) mod ear;
pub(crate) mod frame;
pub(crate) mod handshake;
pub(crate) mod hello;
pub(crate) mod host;
pub(crate) mod link;
pub(crate) mod loan;
pub(crate) mod mailbox;
pub(crate) mod mailboxes;
pub(crate) mod names;
pub(crate) mod node;
pub(crate) mod opening;
pub(crate) mod packer;
pub(crate) mod parcel;
pub(crate) mod peer;
pub(crate) mod port;
pub(crate) mod port_task;
pub(crate) mod registry;
pub(crate) mod replies;
pub(crate) mod route;
pub(crate) mod schemas;
pub(crate) mod socket;
pub(crate) mod spin;
pub(crate) mod tell;
pub(crate) mod tell_all;
pub(crate) mod topics;
pub(crate) mod unbatch;
pub(crate) mod users;
