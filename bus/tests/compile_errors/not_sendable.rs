use shmbus::ShmType;

#[derive(ShmType)]
enum Never {}

#[derive(ShmType)]
struct Counts {
    all: usize,
    some: Vec<isize>,
    length_is_fine: [u8; 4usize],
}

#[derive(ShmType)]
struct Borrowed {
    text: &'static str,
    at: *const u8,
}

#[derive(ShmType)]
#[repr(C, packed(1))]
struct Packed(u8, u32);

fn main() {}
