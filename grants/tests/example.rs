//! The example in `examples/` runs to its end.

#[path = "../examples/verifier.rs"]
mod verifier;

#[test]
fn the_verifier_of_the_example_judges_as_it_says() {
    verifier::main().expect("every step of the example");
}
