use shmbus::ShmMessage;

#[derive(ShmMessage)]
struct Message<'a> {
    text: &'a str,
}

fn main() {}
