//! Random sequences of everything that may happen to a bus, each compared step by step with a model of a few lines.
//! Both backends must answer as the model does; what the contract leaves open (which partition goes first) the model
//! does too.

mod expected;
mod run;
mod steps;
mod subject;

use proptest::test_runner::{Config, TestRunner};

use self::{run::run_one, steps::steps, subject::Backend};

#[test]
fn in_memory_the_bus_does_what_the_model_does() {
    run_sequences(7000, async || Backend::Memory);
}

#[test]
fn on_redis_the_bus_does_what_the_model_does() {
    run_sequences(3000, Backend::redis);
}

fn run_sequences(count: u32, backend: impl AsyncFnOnce() -> Backend) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let backend = runtime.block_on(backend());
    let config = Config {
        cases: count,
        failure_persistence: None,
        ..Config::default()
    };
    let outcome =
        TestRunner::new(config).run(&steps(), |steps| runtime.block_on(run_one(&backend, steps)));
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
}
