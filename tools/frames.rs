//! Sends frames through the bridge and does nothing else, for tools that count what a process does
//! (`tools/instructions`): `frames SCENARIO COUNT`; without arguments it names the scenarios.
#![allow(clippy::unwrap_used)]

#[path = "../benches/scenarios/mod.rs"]
mod scenarios;

use anyhow::Context;

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let Some(name) = arguments.next() else {
        scenarios::all().iter().for_each(|scenario| println!("{}", scenario.name));
        return Ok(());
    };
    let count: u64 = arguments.next().context("how many frames?")?.parse()?;
    let named = scenarios::all().into_iter().find(|scenario| scenario.name == name);
    let mut scenario = named.with_context(|| format!("no scenario '{name}'"))?;
    scenario.warm_up();
    for _ in 0..count {
        std::hint::black_box(scenario.step());
    }
    eprintln!("{name}: {} copies sent", scenario.sent());
    Ok(())
}
