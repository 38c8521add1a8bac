//! The return ring, and the words of a link: head, waiting, losses, header.

use shmbus::fuzz::peer::{self, HEAD_AT, LOSSES_AT, WAITING_AT};

use super::{
    Expect::{Closed, Harmless},
    Row,
};
use crate::peer::Stage;

pub fn words() -> Vec<Row> {
    // The victim has told one message, inline, by its route 0.
    let back = |field, value: &'static str, expect, entries: &'static [(u32, u8, Option<u16>)]| {
        Row::new(Stage::Answering, ("return", field), value, expect, move |rig| {
            for (entry, kind, lap) in entries {
                rig.give_back(*entry, *kind, *lap);
            }
        })
        .then("tell 40")
    };
    let word = |field, value: u64, expect, at: usize| {
        Row::new(
            Stage::Answering,
            ("word", field),
            format!("{value:#x}"),
            expect,
            move |rig| {
                rig.memory.store(at, value);
            },
        )
        .then("tell 40")
    };
    vec![
        back(
            "all",
            "honest",
            Harmless("the window opens"),
            &[(1 << 16, 2, None)],
        ),
        back("kind", "0", Closed("return of kind 0"), &[(0, 0, None)]),
        back("kind", "4", Closed("return of kind 4"), &[(0, 4, None)]),
        back("kind", "255", Closed("return of kind 255"), &[(0, 255, None)]),
        back("lap", "0", Harmless("not written yet"), &[(1 << 16, 2, Some(0))]),
        back("lap", "2", Closed("of lap 2"), &[(1 << 16, 2, Some(2))]),
        back(
            "lap",
            "65535",
            Closed("of lap 65535"),
            &[(1 << 16, 2, Some(u16::MAX))],
        ),
        back("token", "not held", Closed("return of token 0"), &[(0, 1, None)]),
        back("token", "wild", Closed("return of token"), &[(u32::MAX, 1, None)]),
        back(
            "token",
            "not held, refused",
            Closed("return of token"),
            &[(0, 3, None)],
        ),
        back("route", "unknown", Closed("for route 9"), &[(0x1_0009, 2, None)]),
        back("route", "wild", Closed("for route 65535"), &[(0x1_ffff, 2, None)]),
        back(
            "count",
            "more than held",
            Closed("a credit of 1000"),
            &[(1000 << 16, 2, None)],
        ),
        back(
            "count",
            "wild",
            Closed("a credit of 65535"),
            &[(0xffff_0000, 2, None)],
        ),
        back("count", "0", Closed("a credit of 0"), &[(0, 2, None)]),
        back(
            "all",
            "twice",
            Harmless("for others that it holds"),
            &[(1 << 16, 2, None), (1 << 16, 2, None)],
        ),
        word("head", 1, Harmless("as far as it says"), HEAD_AT),
        word("head", 100, Closed("position went from"), HEAD_AT),
        word("head", u64::MAX, Closed("position went from"), HEAD_AT),
        word("waiting", u64::MAX, Harmless("rung, once"), WAITING_AT),
        word("waiting", 1, Harmless("rung, once"), WAITING_AT),
        Row::new(
            Stage::Asking,
            ("word", "losses"),
            "wild, twice",
            Harmless("its own number"),
            |rig| {
                rig.memory.store(LOSSES_AT, u64::MAX);
                rig.memory.store(LOSSES_AT + 1, u64::MAX);
                let (port, mailbox, kind) = rig.subscription.clone().expect("a subscription");
                for topic in [0, 1] {
                    rig.frame(&peer::topic(topic, &format!("in.{topic}"), &kind));
                    rig.frame(&peer::attached(port, mailbox, topic, 7, topic));
                    rig.frame(&peer::attached(port, mailbox, topic, 7, topic));
                }
                rig.is_served().expect("a session");
            },
        )
        .then("lost"),
        Row::new(
            Stage::Asking,
            ("word", "header"),
            "changed afterwards",
            Harmless("read once"),
            |rig| {
                rig.memory.store(0, 0);
                rig.memory.store(1, u64::MAX);
            },
        ),
    ]
}
