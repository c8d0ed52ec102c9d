//! Checks of Harbormaster: whether builds reach us, and answers reach it.

use build::Phid;
use phabricator::Conduit;

use super::lines::Lines;
use crate::config::Config;

/// Checks whether answers are written, and the build plan.
pub(super) async fn check(
    config: &Config,
    conduit: &Conduit,
    lines: &mut Lines,
) -> anyhow::Result<()> {
    if config.phabricator.publish {
        lines.ok(
            &"PHABRICATOR.publish",
            "answers are written to build targets",
        )?;
    } else {
        lines.warning(
            &"PHABRICATOR.publish",
            "is false, so NOTHING is written to build targets: no build gets an answer, and authors see \
             neither a link nor a reason; set it to true unless this deployment only watches",
        )?;
    }
    let Some(phid) = &config.build_plan else {
        return lines.warning(
            &"build plan",
            "build_plan_phid is not set, so the plan was not checked, and the audit cannot find requests that were lost",
        );
    };
    let subject = format!("build plan {phid}");
    let plan = match conduit.build_plan(phid).await {
        Ok(Some(plan)) => plan,
        Ok(None) => {
            return lines.failed(
                &subject,
                "harbormaster.buildplan.search finds no such plan: correct build_plan_phid, or let our user see the plan",
            );
        }
        Err(error) if error.is_unknown_method() => return unreadable(phid, lines),
        Err(error) => return lines.report(&subject, Err(error.into())),
    };
    if plan.is_enabled {
        lines.ok(
            &subject,
            &format!(
                "harbormaster.buildplan.search finds it: {}, enabled",
                plan.name
            ),
        )?;
    } else {
        lines.failed(
            &subject,
            &format!(
                "{} is disabled, so no build is requested: enable it in Harbormaster",
                plan.name
            ),
        )?;
    }
    hold_drafts(plan.hold_drafts.as_deref(), &subject, lines)?;
    step(conduit, phid, lines).await?;
    builds(conduit, phid, lines).await
}

fn unreadable(plan: &Phid, lines: &Lines) -> anyhow::Result<()> {
    lines.by_hand(
        &format!("build plan {plan}"),
        "cannot be read through Conduit of this server: check in Harbormaster that it is enabled, that it has the step Make \
         HTTP Request, and the value of Hold Drafts",
    )
}

fn hold_drafts(value: Option<&str>, subject: &str, lines: &Lines) -> anyhow::Result<()> {
    let subject = format!("Hold Drafts of {subject}");
    match value {
        Some("never") => lines.ok(&subject, "Never: revisions leave draft without waiting for our answer"),
        Some(value) => lines.warning(
            &subject,
            &format!(
                "is {value}: a pushed revision stays a draft until the review bot ends its target, and a failure of ours \
                 makes it Changes Planned; set Never unless that is wanted"
            ),
        ),
        None => lines.by_hand(&subject, "cannot be read through Conduit: check the plan's behaviors in Harbormaster"),
    }
}

async fn step(conduit: &Conduit, plan: &Phid, lines: &mut Lines) -> anyhow::Result<()> {
    const SUBJECT: &str = "build step";
    const EXPECTED: &str = "Make HTTP Request, with the address of docs/use/first-build.md, method POST, When Complete: Wait For \
                            Message, and the credential with webhook_secret";
    match conduit.build_steps(plan).await {
        Ok(steps) if steps.is_empty() => lines.failed(
            &SUBJECT,
            &format!("harbormaster.step.search finds none in the plan: add {EXPECTED}"),
        ),
        Ok(steps) => {
            lines.ok(
                &SUBJECT,
                &format!("harbormaster.step.search finds {}", steps.join(", ")),
            )?;
            lines.by_hand(
                &SUBJECT,
                &format!("its settings cannot be read through Conduit: check by hand that it is {EXPECTED}"),
            )
        }
        Err(error) if error.is_unknown_method() => lines.by_hand(
            &SUBJECT,
            &format!(
                "cannot be read through Conduit of this server: check by hand that it is {EXPECTED}"
            ),
        ),
        Err(error) => lines.report(&SUBJECT, Err(error.into())),
    }
}

/// Checks, on the newest builds of the plan, that Herald starts them and that our user sees them.
async fn builds(conduit: &Conduit, plan: &Phid, lines: &mut Lines) -> anyhow::Result<()> {
    const RULE: &str = "Herald rule";
    const RIGHTS: &str = "rights of our user";
    let found = match conduit.newest_builds(plan).await {
        Ok(found) => found,
        Err(error) => return lines.report(&RULE, Err(error.into())),
    };
    if found.is_empty() {
        lines.by_hand(
            &RULE,
            "our user sees no build of this plan, so none has started yet or it may not see them: check by hand that a global \
             Herald rule for Differential Revisions runs this plan",
        )?;
    } else if found.by_herald == 0 {
        lines.warning(
            &RULE,
            &format!(
                "none of the newest {} builds was started by one: check that a Herald rule for Differential Revisions \
                 runs this plan, else only people start builds",
                found.builds
            ),
        )?;
    } else {
        lines.ok(
            &RULE,
            &format!(
                "{} of the newest {} builds were started by one",
                found.by_herald, found.builds
            ),
        )?;
        lines.by_hand(
            &RULE,
            "its type cannot be read through Conduit: check by hand that it is a global rule for Differential Revisions",
        )?;
    }
    if found.is_empty() {
        lines.by_hand(
            &RIGHTS,
            "there is no build to check: start one, then check again",
        )
    } else if found.targets == 0 {
        lines.by_hand(
            &RIGHTS,
            "our user sees no target of the newest build: it has not begun, or our user may not send answers; see it in \
             Harbormaster as that user",
        )
    } else {
        lines.ok(
            &RIGHTS,
            "our user sees the newest build and its target, which is all that harbormaster.sendmessage requires; nothing was \
             sent",
        )
    }
}
