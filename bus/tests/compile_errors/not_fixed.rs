use shmbus::{Address, Bulk, Publisher, ShmMessage};

#[derive(ShmMessage)]
struct Note {
    text: String,
}

#[derive(ShmMessage)]
struct Frame {
    data: Bulk,
}

fn to_an_actor(address: &Address<Note>, note: &Note) {
    let _ = address.try_in_place(note);
}

fn to_a_topic(publisher: &Publisher<Frame>, frame: &Frame) {
    let _ = publisher.try_in_place(frame);
}

fn main() {}
