//! `maxwell ps`, `fund`, `bid`, `park`, `kill`: what people ask of running Maxwells.

use std::process::ExitCode;
use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};
use maxwell_core::{Joule, Price};
use maxwell_hypervisor::protocol::control::{AgentRow, Client, ControlError, Directory, Instance};
use serde_json::{Value, json};

use crate::outcome::Failure;
use crate::run::say;

/// The longest wait for an instance's answer: it decides once a tick.
const PATIENCE: Duration = Duration::from_secs(5);

fn instances() -> Result<Vec<Instance>, Failure> {
    let usual = Directory::usual().map_err(failed)?;
    if !usual.exists() {
        return Ok(Vec::new());
    }
    Directory::open(usual).and_then(|directory| directory.instances()).map_err(failed)
}

fn failed(error: ControlError) -> Failure {
    match error {
        ControlError::Refused { .. } => Failure::Refused(error.to_string()),
        other => Failure::Control(other.to_string()),
    }
}

/// `maxwell ps`
pub(crate) fn ps(as_json: bool) -> Result<ExitCode, Failure> {
    let mut rows: Vec<(String, AgentRow)> = Vec::new();
    for instance in instances()? {
        match Client::connect(&instance.path, PATIENCE).and_then(|mut client| client.list()) {
            Ok(agents) => rows.extend(agents.into_iter().map(|agent| (instance.id.clone(), agent))),
            // It ended between two looks.
            Err(ControlError::Gone { .. }) => {}
            Err(error) => eprintln!("maxwell: {error}"),
        }
    }
    if as_json {
        let rows: Vec<Value> =
            rows.iter().map(|(instance, agent)| json!({"instance": instance, "agent": agent})).collect();
        say(&format!("{}\n", serde_json::to_string_pretty(&rows).expect("plain data")));
    } else if rows.is_empty() {
        say("no Maxwell of yours is running\n");
    } else {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header(["INSTANCE", "AGENT", "STATE", "WALLET", "SPENT", "CORE TIME", "BID", "WHY"]);
        for (instance, agent) in &rows {
            table.add_row([
                instance.clone(),
                agent.name.clone(),
                agent.state.clone(),
                Joule(agent.wallet).to_string(),
                Joule(agent.spent).to_string(),
                format!("{:.2} s", Duration::from_micros(agent.core_us).as_secs_f64()),
                Price(agent.bid).to_string(),
                agent.text.clone(),
            ]);
        }
        for column in 3..7 {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        say(&format!("{table}\n"));
    }
    Ok(ExitCode::SUCCESS)
}

/// One verb about one agent. `target` is an instance with one agent, an agent's name, or both: `INSTANCE/AGENT`.
pub(crate) fn ask(verb: &str, target: &str, mut params: Value, as_json: bool) -> Result<ExitCode, Failure> {
    let (instance, agent) = target.split_once('/').map_or((target, None), |(instance, agent)| (instance, Some(agent)));
    let running = instances()?;
    let (instance, agent) = match running.iter().find(|running| running.id == instance) {
        Some(found) => (found.clone(), agent.map(str::to_owned)),
        None => find_agent(&running, target)?,
    };
    if let Some(agent) = agent {
        params["agent"] = Value::String(agent);
    }
    let mut client = Client::connect(&instance.path, PATIENCE).map_err(failed)?;
    let row = client.agent(verb, &params).map_err(failed)?;
    if as_json {
        say(&format!("{}\n", serde_json::to_string_pretty(&row).expect("plain data")));
    } else {
        say(&format!("{}: {}, has {}: {}\n", row.name, row.state, Joule(row.wallet), row.text));
    }
    Ok(ExitCode::SUCCESS)
}

/// An agent by its name alone, wherever it runs.
fn find_agent(running: &[Instance], name: &str) -> Result<(Instance, Option<String>), Failure> {
    let mut found = Vec::new();
    for instance in running {
        if let Ok(agents) = Client::connect(&instance.path, PATIENCE).and_then(|mut client| client.list())
            && agents.iter().any(|agent| agent.name == name)
        {
            found.push(instance.clone());
        }
    }
    match found.as_slice() {
        [one] => Ok((one.clone(), Some(name.to_owned()))),
        [] => Err(Failure::Usage(format!("nothing called `{name}` is running: `maxwell ps` shows what is"))),
        several => {
            let ids: Vec<String> = several.iter().map(|instance| format!("{}/{name}", instance.id)).collect();
            Err(Failure::Usage(format!("`{name}` runs several times: say which, {}", ids.join(" or "))))
        }
    }
}
