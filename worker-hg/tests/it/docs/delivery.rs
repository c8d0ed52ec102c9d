use std::{fs, path::PathBuf, sync::Arc};

use worker::Backend;
use worker_hg::Mercurial;

use super::bundles::Bundles;
use crate::world::World;

#[tokio::test]
async fn head_is_stored_once_as_a_bundle_that_a_ci_system_can_apply() {
    let mut world = World::new();
    let directory = world.path("bundles");
    fs::create_dir(&directory).unwrap();
    world.repository().try_url = directory.display().to_string();
    let mercurial = Backend::new(Arc::new(Mercurial::new()));
    world.backend = Some(mercurial.pushing_to(|site| {
        Ok(Box::new(Bundles {
            directory: PathBuf::from(&site.repository.try_url),
            deadline: site.settings.limits.transfer,
        }))
    }));
    world.start();
    let build = world.simple_build(7);
    let first = world.pushed(&build).await;
    world.die_before_the_end_is_recorded(&build).await;
    let second = world.pushed(&build).await;
    assert_eq!(first.revision, second.revision);
    world.stop().await;

    let files = fs::read_dir(&directory).unwrap();
    let files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    assert_eq!(files, [directory.join(format!("{}.hg", first.revision))]);
    world
        .source
        .hg(&["unbundle", "--quiet", files[0].to_str().unwrap()]);
    assert_eq!(world.source.tip(), first.revision);
}
