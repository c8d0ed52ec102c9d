//! A destination that is not the version control's own: when the worker calls it, and the outcomes of its pushes.

use std::{collections::VecDeque, sync::Arc};

use async_trait::async_trait;
use build::{BuildEventKind, BuildUpdate};
use parking_lot::Mutex;
use worker::{
    Barrier, Peer, WorkerError,
    destination::{Destination, Push, PushError, PushOutcome},
};

use crate::{Repository, Side, World, change};

/// A call of the worker. Repeated calls of `end` count as one: a clone goes back into the pool after them too.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Call {
    Prepare,
    Push { head: String, begun_before: bool },
    End,
}

/// The calls, and the results of the next pushes. Without one, a push is accepted.
#[derive(Default)]
struct Script {
    calls: Mutex<Vec<Call>>,
    results: Mutex<VecDeque<Result<PushOutcome, PushError>>>,
}

impl Script {
    fn call(&self, call: Call) {
        let mut calls = self.calls.lock();
        if call != Call::End || calls.last() != Some(&Call::End) {
            calls.push(call);
        }
    }

    /// For each push, whether one had begun before.
    fn pushes(&self) -> Vec<bool> {
        let calls = self.calls.lock();
        let pushes = calls.iter().filter_map(|call| match call {
            Call::Push { begun_before, .. } => Some(*begun_before),
            _ => None,
        });
        pushes.collect()
    }

    fn next(&self, result: Result<PushOutcome, PushError>) {
        self.results.lock().push_back(result);
    }
}

/// With the check whether a repository has a head.
struct Scripted(Arc<Script>, fn(&Push<'_>) -> bool);

#[async_trait]
impl Destination for Scripted {
    fn prepare(&mut self) {
        self.0.call(Call::Prepare);
    }

    async fn push(&mut self, push: Push<'_>) -> Result<PushOutcome, PushError> {
        assert!((self.1)(&push), "the repository has no head");
        assert_eq!(push.build.request.revision_id, 7);
        self.0.call(Call::Push {
            head: push.head.id.clone(),
            begun_before: push.begun_before,
        });
        let next = self.0.results.lock().pop_front();
        next.unwrap_or(Ok(PushOutcome::Accepted))
    }

    fn end(&mut self) {
        self.0.call(Call::End);
    }
}

fn has_head<S: Side>(push: &Push<'_>) -> bool {
    let repository = S::Repo::at(push.repository.to_owned());
    !repository.history(&push.base.id, &push.head.id).is_empty()
}

/// A world whose heads go to such a destination.
fn world<S: Side>() -> (World<S>, Arc<Script>) {
    let mut world = World::<S>::new();
    let script = Arc::<Script>::default();
    let opened = Arc::clone(&script);
    let backend = world.side.backend();
    world.backend = Some(
        backend.pushing_to(move |_| Ok(Box::new(Scripted(Arc::clone(&opened), has_head::<S>)))),
    );
    (world, script)
}

fn refused() -> PushError {
    PushError::Failed(WorkerError::Refused {
        doing: "push to try".to_owned(),
        words: "closed".to_owned(),
    })
}

fn unreachable() -> PushError {
    PushError::Failed(WorkerError::Remote {
        peer: Peer::Destination,
        doing: "push to try".to_owned(),
        words: "connection reset".to_owned(),
    })
}

pub async fn push_is_prepared_and_ended_once_and_the_own_destination_gets_nothing<S: Side>() {
    let (mut world, script) = world::<S>();
    world.start();
    let pushed = world.pushed(&world.simple_build(7)).await;
    world.stop().await;
    let push = Call::Push {
        head: pushed.revision,
        begun_before: false,
    };
    assert_eq!(
        *script.calls.lock(),
        [Call::End, Call::Prepare, push, Call::End]
    );
    world.nothing_was_pushed();
}

pub async fn build_that_is_not_pushed_ends_what_was_prepared<S: Side>() {
    let (mut world, script) = world::<S>();
    world.start();
    let patch = change("line V", "x");
    world
        .patch_failed(&world.build_of(vec![world.patch(7, patch)]))
        .await;
    world.stop().await;
    assert_eq!(*script.calls.lock(), [Call::End, Call::Prepare, Call::End]);
}

pub async fn push_knows_whether_an_earlier_one_may_have_stored_the_head<S: Side>() {
    let (mut world, script) = world::<S>();
    world.start();
    let build = world.simple_build(7);
    script.next(Err(refused()));
    script.next(Err(unreachable()));
    world.pushed(&build).await;
    world.die_before_the_end_is_recorded(&build).await;
    script.next(Ok(PushOutcome::UpToDate));
    world.pushed(&build).await;
    world.stop().await;
    // Nothing is stored by a push that was refused.
    assert_eq!(script.pushes(), [false, false, true, true]);
}

pub async fn patches_that_the_destination_refuses_fail_the_build<S: Side>() {
    let (mut world, script) = world::<S>();
    world.start();
    let build = world.simple_build(7);
    script.next(Err(PushError::Rejected {
        words: "hello.txt: no trailing space, please; 1 fault".to_owned(),
    }));
    let failure = world.patch_failed(&build).await;
    assert!(failure.base.is_some());
    assert_eq!(failure.summary, "The stack of D7 is refused by try.");
    assert_eq!(
        failure.details,
        "hello.txt: no trailing space, please\n1 fault"
    );
    assert!(!world.record(&build).await.pushing);
    assert_eq!(script.pushes(), [false]);
    assert!(world.dead_letters().await.is_empty());
    world.stop().await;
}

pub async fn destination_that_does_not_admit_us_gets_no_second_push<S: Side>() {
    let (mut world, script) = world::<S>();
    world.start();
    script.next(Err(PushError::Failed(WorkerError::Forbidden {
        peer: Peer::Destination,
        barrier: Barrier::Credentials,
        doing: "push to try".to_owned(),
        words: "401".to_owned(),
    })));
    let build = world.simple_build(7);
    let update = world.build(&build).await;
    let BuildUpdate::InfraFailed(failure) = update else {
        panic!("{update:?}")
    };
    assert_eq!(failure.summary, "Our credentials were not accepted by try.");
    assert_eq!(script.pushes(), [false]);
    world.stop().await;
}

pub async fn backend_without_another_destination_pushes_to_the_own_one<S: Side>() {
    let mut world = World::<S>::new();
    world.backend = Some(world.side.backend());
    world.start();
    let pushed = world.pushed(&world.simple_build(7)).await;
    world.stop().await;
    assert_eq!(world.destination.pushed(), [pushed.revision]);
}

pub async fn clone_whose_destination_cannot_be_opened_is_prepared_again<S: Side>() {
    let (mut world, script) = world::<S>();
    let backend = world.side.backend();
    let failures = Mutex::new(1);
    let opened = Arc::clone(&script);
    world.backend = Some(backend.pushing_to(move |_| {
        let mut failures = failures.lock();
        if *failures == 0 {
            return Ok(Box::new(Scripted(Arc::clone(&opened), has_head::<S>)));
        }
        *failures -= 1;
        Err(WorkerError::Settings {
            reason: "there is no such directory".to_owned(),
        })
    }));
    world.start();
    let build = world.simple_build(7);
    world.accept(&build).await;
    let deferred = |event: &BuildEventKind| matches!(event, BuildEventKind::Deferred { .. });
    world.recorded(&build, deferred).await;
    let update = world.next_update().await.update;
    assert!(matches!(update, BuildUpdate::Pushed(_)), "{update:?}");
    world.stop().await;
}
