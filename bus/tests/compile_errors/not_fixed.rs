use shmbus::{Address, ShmMessage};

#[derive(ShmMessage)]
struct Note {
    text: String,
}

fn to_an_actor(address: &Address<Note>, note: &Note) {
    let _ = address.try_in_place(note);
}

fn main() {}
