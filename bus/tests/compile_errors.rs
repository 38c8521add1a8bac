//! What cannot be sent is refused by the compiler, with the place and a way out.

#[test]
fn compile_errors() {
    trybuild::TestCases::new().compile_fail("tests/compile_errors/*.rs");
}
