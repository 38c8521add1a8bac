//! Topics: who publishes what, who subscribes to what, and how messages get from one to the other.

pub(crate) mod announcing;
pub(crate) mod catalog;
#[cfg(test)]
mod model;
pub(crate) mod outlet;
pub(crate) mod pattern;
pub(crate) mod publishing;
pub(crate) mod subscription;
