//! What is not done in earnest: types that do not fit, names that nobody has, and watching.

use std::{sync::Arc, time::Duration};

use shmbus::error::{LookupError, TopicError};

use super::{Member, fault, mailboxes::NAMES};
use crate::{
    dice::Dice,
    identity::mailbox,
    messages::odd::{Note, Stranger, Tick},
};

/// Until there is to be peace.
pub async fn run(member: Arc<Member>) {
    let mut dice = member.dice(2);
    while member.is_busy() {
        let place = dice.below(u64::from(member.place.places)) as u16;
        let name = mailbox(place, dice.below(NAMES));
        match dice.below(5) {
            0 => other_fields(&member, &name, &mut dice).await,
            1 => unhandled(&member, &name, &mut dice).await,
            2 => nobody(&member, &mut dice).await,
            3 => other_topic(&member, &mut dice).await,
            _ => watch(&member, &name, &mut dice).await,
        }
        let stats = member.bus.stats();
        if stats.violations > 0 {
            fault(format_args!("peers broke the protocol: {stats:?}"));
        }
        member.pause(dice.millis(5, 150)).await;
    }
}

async fn other_fields(member: &Member, name: &str, dice: &mut Dice) {
    let within = dice.millis(1, 100);
    match member.bus.address::<Note>(name).deadline(within).await {
        Err(LookupError::Schema { difference, .. }) => {
            // The actor may have gone before it could describe them.
            if !difference.contains("flow") && !difference.contains("not to be had") {
                fault(format_args!(
                    "the difference is in `flow`, not here: {difference}"
                ));
            }
        }
        Err(LookupError::Unknown { .. } | LookupError::PeerLost { .. } | LookupError::Closed) => {}
        // Its schemas were asked for, and it has gone meanwhile.
        Err(error) => fault(format_args!("a lookup with other fields: {error}")),
        Ok(_) => fault("an address was opened with other fields"),
    }
}

async fn unhandled(member: &Member, name: &str, dice: &mut Dice) {
    let within = dice.millis(1, 100);
    match member.bus.address::<Stranger>(name).deadline(within).await {
        Err(
            LookupError::NotHandled { .. }
            | LookupError::Unknown { .. }
            | LookupError::PeerLost { .. }
            | LookupError::Closed,
        ) => {}
        Err(error) => fault(format_args!("a lookup of what is not handled: {error}")),
        Ok(_) => fault("an address was opened for what is not handled"),
    }
}

async fn nobody(member: &Member, dice: &mut Dice) {
    let within = dice.millis(1, 50);
    match member.bus.address::<Stranger>("nobody").deadline(within).await {
        Err(LookupError::Unknown { .. } | LookupError::Closed) => {}
        Err(error) => fault(format_args!("a lookup of nobody: {error}")),
        Ok(_) => fault("nobody has an address"),
    }
}

/// All of these topics have other messages: this is refused, or there is none just now.
async fn other_topic(member: &Member, dice: &mut Dice) {
    let within = dice.millis(1, 100);
    match member.bus.subscriber::<Tick>("own.*.*").deadline(within).await {
        Err(TopicError::Schema { .. } | TopicError::NotAttached { .. } | TopicError::Closed) => {}
        Err(error) => fault(format_args!("a subscription with other fields: {error}")),
        Ok(subscriber) => drop(subscriber),
    }
}

/// Up and down in turn.
async fn watch(member: &Member, name: &str, dice: &mut Dice) {
    let mut watch = member.bus.watch(name);
    let mut last = None;
    for _ in 0..dice.below(20) {
        let next = tokio::time::timeout(Duration::from_millis(200), watch.next()).await;
        match next {
            Ok(Some(presence)) if last == Some(presence) => {
                return fault(format_args!("{name} is {presence:?} after {presence:?}"));
            }
            Ok(Some(presence)) => last = Some(presence),
            Ok(None) => return,
            Err(_) => {}
        }
        if !member.is_busy() {
            return;
        }
    }
}
