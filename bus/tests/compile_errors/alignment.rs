use shmbus::ShmType;

/// What a type of another crate might be: archived as it is, and aligned to a cache line.
#[derive(Clone, Copy, rkyv::Portable, rkyv::bytecheck::CheckBytes)]
#[bytecheck(crate = rkyv::bytecheck)]
#[repr(C, align(64))]
struct Line([u8; 64]);

impl rkyv::Archive for Line {
    type Archived = Line;
    type Resolver = ();
    fn resolve(&self, (): (), _: rkyv::Place<Line>) {}
}

impl<S: rkyv::rancor::Fallible + ?Sized> rkyv::Serialize<S> for Line {
    fn serialize(&self, _: &mut S) -> Result<(), S::Error> {
        Ok(())
    }
}

impl<D: rkyv::rancor::Fallible + ?Sized> rkyv::Deserialize<Line, D> for Line {
    fn deserialize(&self, _: &mut D) -> Result<Line, D::Error> {
        Ok(*self)
    }
}

#[derive(ShmType)]
struct Message {
    id: u32,
    #[shm(opaque = "line@1")]
    line: Line,
}

fn main() {}
