//! Handshakes with anybody.

use super::{input::Input, world};
use crate::session::{
    handshake::{self, Me},
    hello::{Hello, Verdict},
    socket::Socket,
};

/// Which side we are, then the other side's packets.
pub fn handshake(data: &[u8]) {
    let mut input = Input(data);
    let accepting = input.byte() & 1 == 0;
    world::with(|world| {
        let me = Me::new("default", "fuzzed");
        let (ours, theirs) = Socket::pair().expect("a socket pair");
        while !input.is_empty() {
            let packet = input.packet();
            if let Ok(hello) = Hello::decode(packet) {
                assert_eq!(Hello::decode(&hello.encode()), Ok(hello));
            }
            if let Ok(verdict) = Verdict::decode(packet) {
                assert_eq!(Verdict::decode(&verdict.encode()), Ok(verdict));
            }
            // It may not fit any more, or be empty.
            let _ = theirs.try_send(packet, &[]);
        }
        // They say no more, so nobody waits for them.
        rustix::net::shutdown(&theirs, rustix::net::Shutdown::Write).expect("an end");
        let within = world.node.config.handshake_deadline;
        world.block_on(async {
            if accepting {
                let met = handshake::accept(&ours, &me, within, |_| Verdict::Welcome).await;
                assert!(
                    !matches!(met, Err(handshake::HandshakeError::Timeout { .. })),
                    "it waits"
                );
            } else {
                let met = handshake::dial(&ours, &me, within).await;
                assert!(
                    !matches!(met, Err(handshake::HandshakeError::Timeout { .. })),
                    "it waits"
                );
            }
        });
    });
}
