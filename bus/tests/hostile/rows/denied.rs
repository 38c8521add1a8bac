//! What a peer of another user is not permitted, and does all the same.

use shmbus::fuzz::peer;

use super::{
    Expect::{Closed, Harmless},
    Row,
};
use crate::peer::{Rig, Slot, Stage};

/// The victim permits it to call `actor`, to bind `wild` and `echo`, to publish `in.*` and to subscribe to `out`.
pub fn denied() -> Vec<Row> {
    let vault = |kind, len| {
        move |rig: &mut Rig| {
            let slot = rig.ping();
            rig.put(Slot {
                kind,
                len,
                mailbox: slot.mailbox + 1,
                ..slot
            });
        }
    };
    let closed = Closed("not permitted to call");
    let frame = |field, why: &'static str, packet: fn(&Rig) -> Vec<u8>| {
        Row::new(
            Stage::Session,
            ("frame", field),
            "not permitted",
            Harmless(why),
            move |rig| {
                rig.frame(&packet(rig));
            },
        )
    };
    vec![
        Row::new(Stage::Asking, ("slot", "mailbox"), "a tell", closed, vault(1, 8)),
        Row::new(Stage::Asking, ("slot", "mailbox"), "an ask", closed, vault(2, 8)),
        Row::new(
            Stage::Asking,
            ("slot", "mailbox"),
            "a tell without a message",
            closed,
            vault(1, 0),
        ),
        Row::new(
            Stage::Asking,
            ("slot", "mailbox"),
            "after one that is permitted",
            closed,
            move |rig| {
                let slot = rig.ping();
                rig.put(slot);
                vault(1, 8)(rig);
            },
        ),
        Row::new(Stage::Asking, ("slot", "mailbox"), "a buffer", closed, |rig| {
            rig.send_with(&peer::segment(0, 4096), &[rig.pool.fd()]);
            let slot = rig.ping().buffer(0, 3, 0, 8);
            rig.put(Slot {
                mailbox: slot.mailbox + 1,
                ..slot
            });
        }),
        Row::new(Stage::Asking, ("slot", "mailbox"), "a batch", closed, |rig| {
            rig.send_with(&peer::segment(0, 4096), &[rig.pool.fd()]);
            let slot = rig.ping().buffer(0, 3, 0, 64);
            rig.put(Slot {
                kind: 6,
                correlation: 1,
                mailbox: slot.mailbox + 1,
                ..slot
            });
        }),
        frame("Bound", "not taken note of", |rig| {
            peer::bound("actor", 1, 1, rig.kind())
        }),
        frame("Describe", "nothing is told", |_| peer::describe(3, "vault")),
        frame("Topic", "not taken note of", |rig| {
            peer::topic(1, "secret", rig.kind())
        }),
        frame("Subscribe", "gets nothing", |rig| {
            peer::subscribe(1, 1, "secret", rig.kind(), 0)
        }),
    ]
}
