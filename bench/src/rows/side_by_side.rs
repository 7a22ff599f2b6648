//! The main job, interleaved with the same job in other tools.

use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::{
    api::{self, Source},
    others::Others,
    samples::{Figures, Unit, timed},
    server::Server,
};

const ANSWER: &str = "create to first answer, on demand";
const FINISHED: &str = "create to `/bin/true` finished, on demand";
const WHOLE: &str = "create, `/bin/true`, destroy, on demand";
const WARM_ANSWER: &str = "create to first answer, warm pool";
const WARM_FINISHED: &str = "create to `/bin/true` finished, warm pool";

/// Runs all of them once per round.
pub(super) fn run(
    server: &Server,
    rounds: usize,
    others: &mut Others,
    figures: &mut Figures,
) -> Result<()> {
    figures.declare(ANSWER, Unit::Time, "1.5 ms (6)", "default pool of blanks");
    figures.declare(FINISHED, Unit::Time, "2.5 ms (8)", "default pool of blanks");
    figures.declare(WHOLE, Unit::Time, "", "to compare with the tools below");
    figures.declare(WARM_ANSWER, Unit::Time, "", "parked sandboxes only");
    figures.declare(WARM_FINISHED, Unit::Time, "1.0 ms (4)", "parked sandboxes only");
    let mut steps = Figures::default();
    let mut client = server.client()?;
    for _ in 0..5 {
        once(&mut client, Source::OnDemand)?; // the first ones of a process are slower
    }
    for round in 0..rounds {
        if round % 50 == 0 {
            println!("measuring: side by side, round {round} of {rounds}");
        }
        let cold = once(&mut client, Source::OnDemand)?;
        figures.time(ANSWER, cold.answer);
        figures.time(FINISHED, cold.finished);
        figures.time(WHOLE, cold.whole);
        for (step, took_us) in cold.steps {
            steps.time(&format!("create on demand, of it: {step}"), Duration::from_micros(took_us));
        }
        let warm = once(&mut client, Source::Warm)?;
        if warm.was_parked {
            figures.time(WARM_ANSWER, warm.answer);
            figures.time(WARM_FINISHED, warm.finished);
        }
        for tool in others.tools.iter_mut().filter(|tool| round % tool.every == 0) {
            let took = tool.run().with_context(|| format!("run {}", tool.name))?;
            figures.time(&tool.name, took);
        }
        super::breathe();
    }
    figures.append(steps);
    Ok(())
}

/// How long one sandbox took, each from the request for it.
struct Once {
    answer: Duration,
    finished: Duration,
    whole: Duration,
    was_parked: bool,
    /// Where the server says the time until the answer went.
    steps: Vec<(String, u64)>,
}

fn once(client: &mut crate::http::Client, source: Source) -> Result<Once> {
    let (answer, sandbox) = timed(|| api::create_answer(client, source))?;
    let sandbox = sandbox.json()?;
    let (id, was_parked) = api::created(&sandbox)?;
    let (exec, ()) = timed(|| api::exec(client, &id, &["/bin/true"]))?;
    let (destroy, ()) = timed(|| api::destroy(client, &id))?;
    let finished = answer + exec;
    let steps = api::steps(&sandbox);
    Ok(Once { answer, finished, whole: finished + destroy, was_parked, steps })
}
