//! Replies: each field of one, and replies that nobody waits for.

use shmbus::fuzz::peer;

use super::{
    Expect::{Closed, Harmless},
    Row,
};
use crate::peer::{Slot, Stage};

pub fn answers() -> Vec<Row> {
    let reply = |field, value, expect, change: fn(Slot) -> Slot| {
        Row::new(Stage::Asked, ("reply", field), value, expect, move |rig| {
            let slot = change(rig.reply());
            rig.put(slot);
        })
    };
    vec![
        reply("all", "honest", Harmless("taken"), |slot| slot),
        reply("kind", "tell", Closed("on the asking end"), |slot| Slot {
            kind: 1,
            ..slot
        }),
        reply("kind", "ask", Closed("on the asking end"), |slot| Slot {
            kind: 2,
            ..slot
        }),
        reply("kind", "publish", Closed("on the asking end"), |slot| Slot {
            kind: 5,
            ..slot
        }),
        reply("correlation", "0", Closed("correlation"), |slot| Slot {
            correlation: slot.correlation.wrapping_add(1 << 32),
            ..slot
        }),
        reply("correlation", "wild", Closed("correlation"), |slot| Slot {
            correlation: u64::MAX,
            ..slot
        }),
        reply("failure code", "wild", Harmless("an ask that failed"), |slot| {
            Slot {
                kind: 4,
                len: 0,
                mailbox: 999,
                ..slot
            }
        }),
        reply("archive", "too short", Closed("not a valid archive"), |slot| {
            Slot { len: 3, ..slot }
        }),
        reply(
            "inline length",
            "two slots, one written",
            Closed("sequence word"),
            |slot| Slot { len: 96, ..slot },
        ),
        reply(
            "segment",
            "not announced",
            Harmless("waits for its frame"),
            |slot| slot.buffer(3, 0, 0, 8),
        ),
        reply("segment", "beyond the last", Closed("segment number"), |slot| {
            slot.buffer(1 << 20, 0, 0, 8)
        }),
        Row::new(
            Stage::Asked,
            ("reply", "all"),
            "twice",
            Closed("correlation"),
            |rig| {
                let slot = rig.reply();
                rig.put(slot);
                rig.put(slot);
            },
        ),
        Row::new(
            Stage::Asked,
            ("reply", "offset"),
            "unaligned",
            Closed("does not lie in"),
            |rig| {
                rig.send_with(&peer::segment(0, 4096), &[rig.pool.fd()]);
                let slot = rig.reply().buffer(0, 0, 8, 8);
                rig.put(slot);
            },
        ),
        Row::new(
            Stage::Answering,
            ("reply", "all"),
            "to nothing",
            Closed("correlation"),
            |rig| {
                let slot = rig.reply();
                rig.put(slot);
            },
        ),
    ]
}
