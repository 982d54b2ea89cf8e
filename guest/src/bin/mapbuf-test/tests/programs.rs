//! Programs that check themselves: the library's tour, and the command's own tests.

use super::questions::{example, run};
use crate::check;
use crate::check::Outcome;

tests! { "programs":
    STOCK, 60: [ library_holds_what_its_tour_shows ];
    // They unload the module.
    RELOAD, 120: [ command_does_what_scripts_rely_on ];
}

fn library_holds_what_its_tour_shows() -> Outcome {
    let said = run(example("tour")?)?;
    let steps = said.lines().filter(|line| line.starts_with("ok ")).count();
    check!(steps >= 5, "{steps} steps: {said}");
    Ok(())
}

fn command_does_what_scripts_rely_on() -> Outcome {
    let mut program = example("command-tests")?;
    program.env("MAPBUF_COMMAND", "mapbuf");
    let result = run(program);
    if !crate::proc::module_loaded("mapbuf") {
        super::module::load()?;
    }
    let said = result?;
    check!(!said.contains("running 0 tests"), "no tests: {said}");
    Ok(())
}
