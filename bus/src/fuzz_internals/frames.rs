//! Control frames: decoded, and acted upon by a session.

use std::os::fd::OwnedFd;

use super::{input::Input, world};
use crate::{
    session::frame::Frame,
    shm::segment::{LinkParts, Segment, create_bell},
};

/// Frames of one session, one after the other: which descriptors come with each, and its packet.
pub fn frames(data: &[u8]) {
    let mut input = Input(data);
    world::with(|world| {
        let (session, theirs) = world.session();
        for _ in 0..64 {
            if input.is_empty() || session.reason().is_some() {
                break;
            }
            let brought = input.byte();
            let packet = input.packet();
            let fds = descriptors(brought);
            if let Ok(frame) = Frame::decode(packet, fds.len()) {
                // What was accepted is within the limits of this side too.
                let again = frame.encode().expect("an accepted frame can be sent");
                assert_eq!(Frame::decode(&again, fds.len()).as_ref(), Ok(&frame));
            }
            session.receive(packet, fds);
        }
        world.turn();
        // What it was told in return is well-formed.
        let mut packet = Vec::new();
        while let Ok(Some(answer)) = theirs.try_recv(&mut packet) {
            Frame::decode(&packet, answer.fds.len()).expect("a frame");
        }
        world.finish(&session);
    });
}

/// How a seed asks for the descriptors of a link of 16 slots and 32 returns.
pub(super) const LINK: u8 = 1;
/// The same for a pool segment of 4,096 bytes.
pub(super) const SEGMENT: u8 = 2;

fn descriptors(brought: u8) -> Vec<OwnedFd> {
    let clone = |segment: &Segment| segment.fd().try_clone_to_owned().expect("a descriptor");
    let page = || clone(&Segment::create("fuzz", 4096).expect("a segment"));
    let bell = || {
        use std::os::fd::AsFd;
        let bell = crate::shm::bell::Bell::new().expect("an eventfd");
        bell.as_fd().try_clone_to_owned().expect("a descriptor")
    };
    let null = || OwnedFd::from(std::fs::File::open("/dev/null").expect("a file"));
    match brought % 8 {
        LINK => {
            let (link, _) = LinkParts::create(16, 32).expect("a segment");
            let (word, _) = create_bell().expect("a segment");
            vec![clone(&link), clone(&word), bell()]
        }
        SEGMENT => vec![page()],
        3 => vec![page(), page(), bell()],
        4 => vec![null()],
        5 => vec![bell(), bell(), bell()],
        6 => vec![null(), null(), null(), null()],
        _ => vec![],
    }
}
