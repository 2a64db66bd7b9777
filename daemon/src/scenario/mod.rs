//! Scenarios: what to run, from a TOML file. The reference is `docs/scenarios.md`.
//!
//! Every error names the file, the line and the column, says what is wrong, and what to write instead. Nothing is
//! guessed: unknown keys are errors, and so are values without a unit.

mod agents;
mod file;
mod sensors;

use std::ops::Range;
use std::path::{Path, PathBuf};

use maxwell_core::bounty::Verifier;
use maxwell_core::landauer::LandauerPolicy;
use maxwell_core::market::MarketPolicy;
use maxwell_core::thermal::{FosterNode, PlantModel, ThermalPolicy};
use maxwell_core::units::{Celsius, Watts};
use maxwell_core::{Bytes, Joule, Micros, Price};
use maxwell_physics::{Choice, ModelConfig};
use serde::Deserialize;
use toml::Spanned;

pub use self::agents::{AgentGroup, GRACE, Module, ProcessSpec, Program};
use self::file::{Degrees, Quantity, Raw, RawMachine, RawNode, RawPolicy, RawSponsor};
use self::sensors::Assumed;

/// Why a scenario cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// The file could not be read.
    #[error("{path}: {source}. Give the path of a scenario, such as scenarios/demo.toml")]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Something in it is wrong.
    #[error("{path}:{line}:{column}: {message}")]
    Wrong {
        /// Which file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
        /// What, and what to do.
        message: String,
    },
}

/// What utilisation the power model follows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Utilisation {
    /// Everything that runs on this computer.
    #[default]
    Machine,
    /// Only agents and Maxwell itself.
    Maxwell,
}

/// A scenario, checked.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// What it shows, for people.
    pub title: String,
    /// The market's rules.
    pub policy: MarketPolicy,
    /// The machine's utilisation.
    pub utilisation: Utilisation,
    /// Which sensors are used.
    pub sensors: Choice,
    /// The machine, for where it must be modelled.
    pub model: ModelConfig,
    /// The most memory an agent may hold.
    pub max_memory: Bytes,
    /// The largest module.
    pub max_module: Bytes,
    /// Who pays for what.
    pub sponsors: Vec<Sponsor>,
    /// Who runs.
    pub agents: Vec<AgentGroup>,
    /// Money that arrives later.
    pub grants: Vec<Grant>,
}

/// A sponsor.
#[derive(Clone, Debug, PartialEq)]
pub struct Sponsor {
    /// Its name.
    pub name: String,
    /// How it checks work.
    pub verifier: Verifier,
    /// What it pays for a unit.
    pub reward: Joule,
    /// All it will pay.
    pub budget: Joule,
}

/// Money for an agent at a moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Grant {
    /// When, from the start.
    pub at: Micros,
    /// The agent's name.
    pub agent: String,
    /// How much.
    pub amount: Joule,
}

/// The most agents in one scenario.
const MOST_AGENTS: u32 = 30_000;

/// The text of a file, to turn byte offsets into lines.
struct Source<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Source<'_> {
    fn place(&self, at: usize) -> (usize, usize) {
        let before = self.text.get(..at).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
        (line, column)
    }

    fn wrong(&self, span: Range<usize>, message: impl Into<String>) -> ScenarioError {
        let (line, column) = self.place(span.start);
        ScenarioError::Wrong { path: self.path.to_owned(), line, column, message: message.into() }
    }

    /// A number that must be finite and inside a range.
    fn within(
        &self,
        value: Spanned<f64>,
        range: std::ops::RangeInclusive<f64>,
        what: &str,
    ) -> Result<f64, ScenarioError> {
        if range.contains(value.get_ref()) {
            return Ok(*value.get_ref());
        }
        let message =
            format!("{what} is {}, but must lie between {} and {}", value.get_ref(), range.start(), range.end());
        Err(self.wrong(value.span(), message))
    }
}

impl Scenario {
    /// Reads and checks a scenario file. Module paths are relative to it.
    ///
    /// # Errors
    ///
    /// What is wrong, where, and what to do.
    pub fn load(path: &Path) -> Result<Self, ScenarioError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ScenarioError::Unreadable { path: path.to_owned(), source })?;
        Self::parse(path, &text)
    }

    /// A market on this machine as it is, with nobody in it: what an empty scenario would say, if one could be.
    ///
    /// # Panics
    ///
    /// Never: the defaults are in range.
    #[must_use]
    pub fn of_this_machine() -> Self {
        let source = Source { path: Path::new(""), text: "" };
        let (machine, sensors) = (RawMachine::default(), file::RawSensors::default());
        let made = || {
            let assumed = Assumed::new(&source, &sensors)?;
            let policy = policy(&source, &machine, RawPolicy::default(), &assumed)?;
            let model = assumed.model(&machine, &policy.thermal);
            let choice = sensors::choice(&source, &sensors)?;
            Ok::<_, ScenarioError>((policy, model, choice))
        };
        let (policy, model, sensors) = made().expect("the defaults are in range");
        let default = maxwell_hypervisor::wasm::WasmConfig::default();
        Self {
            title: String::new(),
            policy,
            utilisation: Utilisation::default(),
            sensors,
            model,
            max_memory: default.max_memory,
            max_module: default.max_module,
            sponsors: Vec::new(),
            agents: Vec::new(),
            grants: Vec::new(),
        }
    }

    /// Checks a scenario's text. `path` is for errors, and what module paths are relative to.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load).
    pub fn parse(path: &Path, text: &str) -> Result<Self, ScenarioError> {
        let source = Source { path, text };
        let raw: Raw = toml::from_str(text).map_err(|error| {
            let message = error.message().replace('\n', "; ");
            source.wrong(error.span().unwrap_or(0..0), message)
        })?;
        let title = raw.title.map_or_else(|| Ok(String::new()), |title| printable(&source, title, "the title"))?;
        let assumed = Assumed::new(&source, &raw.sensors)?;
        let sensors = sensors::choice(&source, &raw.sensors)?;
        let policy = policy(&source, &raw.machine, raw.policy, &assumed)?;
        let model = assumed.model(&raw.machine, &policy.thermal);
        let sponsors = raw.sponsor.into_iter().map(|raw| sponsor(&source, raw)).collect::<Result<_, _>>()?;
        let nobody = 0..0;
        let agents: Vec<AgentGroup> = raw
            .agent
            .into_iter()
            .map(|raw| agents::agent(&source, raw, policy.thermal.slots))
            .collect::<Result<_, _>>()?;
        if agents.is_empty() {
            return Err(source.wrong(
                nobody.clone(),
                "there is no agent to run: add an `[[agent]]` with name, module, wallet and order",
            ));
        }
        let total = agents.iter().fold(0u32, |sum, group| sum.saturating_add(group.count));
        if total > MOST_AGENTS {
            return Err(
                source.wrong(nobody, format!("{total} agents are more than the {MOST_AGENTS} that one machine takes"))
            );
        }
        let grants = raw
            .grant
            .into_iter()
            .map(|raw| {
                let known = agents.iter().any(|group| group.has(raw.agent.get_ref()));
                if !known {
                    let message = format!("no agent is called `{}`", raw.agent.get_ref());
                    return Err(source.wrong(raw.agent.span(), message));
                }
                Ok(Grant { at: raw.at.0, agent: raw.agent.into_inner(), amount: raw.amount.0 })
            })
            .collect::<Result<_, _>>()?;
        let default = maxwell_hypervisor::wasm::WasmConfig::default();
        Ok(Self {
            title,
            policy,
            utilisation: raw.machine.utilisation,
            sensors,
            model,
            max_memory: raw.machine.max_memory.map_or(default.max_memory, |q| q.0),
            max_module: raw.machine.max_module.map_or(default.max_module, |q| q.0),
            sponsors,
            agents,
            grants,
        })
    }
}

/// A text that will be shown on a terminal.
fn printable(source: &Source<'_>, text: Spanned<String>, what: &str) -> Result<String, ScenarioError> {
    if text.get_ref().is_empty() || text.get_ref().chars().any(char::is_control) {
        let message = format!("{what} must not be empty or hold control characters, because it is shown on terminals");
        return Err(source.wrong(text.span(), message));
    }
    Ok(text.into_inner())
}

fn policy(
    source: &Source<'_>,
    machine: &RawMachine,
    raw: RawPolicy,
    assumed: &Assumed,
) -> Result<MarketPolicy, ScenarioError> {
    let default = MarketPolicy::default();
    let thermal = thermal(source, machine, &raw, assumed)?;
    let tick = raw.tick.as_ref().map_or(default.tick, |q| q.get_ref().0);
    if !(1_000..=1_000_000).contains(&tick.0) {
        let span = raw.tick.map_or(0..0, |q| q.span());
        return Err(
            source.wrong(span, format!("a tick of {tick} is out of range: use 1ms to 1s (10ms is the default)"))
        );
    }
    let grid_factor =
        raw.grid_factor.map_or(Ok(default.grid_factor), |v| source.within(v, 0.0..=1000.0, "grid_factor"))?;
    let inefficiency =
        raw.inefficiency.map_or(Ok(default.landauer.inefficiency), |v| source.within(v, 0.0..=1e18, "inefficiency"))?;
    let rent_watts_per_gb = raw.rent_per_gb.map_or(default.landauer.rent_watts_per_gb, |q| Watts::from(q.0).0);
    Ok(MarketPolicy {
        tick,
        pricing: raw.pricing.unwrap_or_default(),
        thermal,
        grid_factor,
        landauer: LandauerPolicy { inefficiency, rent_watts_per_gb },
        resting_fee_ppm: raw.resting_fee_ppm.unwrap_or(default.resting_fee_ppm),
        grace: raw.grace.map_or(default.grace, |q| q.0),
        standby: raw.standby.unwrap_or(default.standby),
        quality: quality(source, machine.quality.as_ref(), thermal.slots)?,
        ..default
    })
}

/// The quality of each slot in thousandths of a full core.
fn quality(source: &Source<'_>, given: Option<&Spanned<Vec<f64>>>, slots: u16) -> Result<Vec<u16>, ScenarioError> {
    let Some(given) = given else { return Ok(Vec::new()) };
    let values = given.get_ref();
    if values.len() != usize::from(slots) || !values.iter().all(|quality| (0.001..=1.0).contains(quality)) {
        let message =
            format!("quality needs a number between 0.001 and 1 for each of the {slots} slots: [1.0, 0.6, …]");
        return Err(source.wrong(given.span(), message));
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and 1000")]
    let thousandths = values.iter().map(|quality| (quality * 1000.0).round() as u16).collect();
    Ok(thousandths)
}

fn thermal(
    source: &Source<'_>,
    machine: &RawMachine,
    policy: &RawPolicy,
    assumed: &Assumed,
) -> Result<ThermalPolicy, ScenarioError> {
    let default = ThermalPolicy::default();
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let slots = match &machine.slots {
        None => u16::try_from(cores).unwrap_or(u16::MAX),
        Some(slots) if (1..=1024).contains(slots.get_ref()) => *slots.get_ref(),
        Some(slots) => {
            return Err(source.wrong(slots.span(), "slots must lie between 1 and 1024: one for each core on sale"));
        }
    };
    let par = machine.par.as_ref().map_or_else(|| assumed.par(), |q| q.get_ref().0);
    if par == Price::ZERO {
        let span = machine.par.as_ref().map_or(0..0, Spanned::span);
        return Err(
            source.wrong(span, "par must be more than zero: it is what a busy core burns, for instance \"4.5W\"")
        );
    }
    let degrees = |given: Option<&Quantity<Degrees>>, otherwise: Celsius| given.map_or(otherwise, |q| Celsius(q.0.0));
    let set = degrees(machine.set.as_ref().map(Spanned::get_ref), default.set);
    let critical = degrees(machine.critical.as_ref(), default.critical);
    let ambient = degrees(machine.ambient.as_ref(), assumed.plant.ambient);
    if !(ambient.0 + 1.0 <= set.0 && set.0 + 7.0 <= critical.0) {
        let span = machine.set.as_ref().map_or(0..0, Spanned::span);
        let message = format!(
            "ambient {ambient}, set {set} and critical {critical} do not fit: set must be at least 1°C above ambient and \
             7°C below critical, because everything freezes 5°C below critical"
        );
        return Err(source.wrong(span, message));
    }
    let node = |given: &Option<Spanned<RawNode>>, otherwise: FosterNode| match given {
        None => Ok(otherwise),
        Some(node) => {
            let FosterNode { resistance, tau } =
                FosterNode { resistance: node.get_ref().resistance, tau: node.get_ref().tau.0.0 as f64 * 1e-6 };
            if (0.001..=1000.0).contains(&resistance) && (0.01..=10_000.0).contains(&tau) {
                Ok(FosterNode { resistance, tau })
            } else {
                let message = "a thermal node needs a resistance of 0.001 to 1000 K/W and a tau of 10ms to 10000s";
                Err(source.wrong(node.span(), message))
            }
        }
    };
    let number = |given: &Option<Spanned<f64>>, otherwise, range, what| match given {
        None => Ok(otherwise),
        Some(value) => source.within(value.clone(), range, what),
    };
    Ok(ThermalPolicy {
        set,
        critical,
        model: PlantModel {
            ambient,
            fast: node(&machine.fast, assumed.plant.fast)?,
            slow: node(&machine.slow, assumed.plant.slow)?,
        },
        idle: machine.idle.map_or_else(|| assumed.idle(), |q| Watts::from(q.0)),
        par,
        slots,
        max_stress: number(&policy.max_stress, default.max_stress, 0.0..=20.0, "max_stress")?,
        slew: number(&policy.slew, default.slew, 0.001..=100.0, "slew")?,
        delay: assumed.delay,
    })
}

fn sponsor(source: &Source<'_>, raw: RawSponsor) -> Result<Sponsor, ScenarioError> {
    let verifier = match (raw.verifier.get_ref().as_str(), raw.least, raw.bits) {
        ("prime", least, None) => Verifier::Prime { least: least.unwrap_or(2) },
        ("hash", None, Some(bits)) => Verifier::Hash { bits },
        ("prime", _, Some(_)) => {
            return Err(source.wrong(raw.verifier.span(), "a `prime` verifier takes `least`, not `bits`"));
        }
        ("hash", ..) => {
            return Err(source.wrong(
                raw.verifier.span(),
                "a `hash` verifier takes `bits`, the zero bits a hash must start with, for instance `bits = 12`",
            ));
        }
        (other, ..) => {
            let message = format!("no verifier is called `{other}`: use `prime` or `hash`");
            return Err(source.wrong(raw.verifier.span(), message));
        }
    };
    if raw.reward.get_ref().0 == Joule::ZERO {
        return Err(source.wrong(raw.reward.span(), "a reward must be more than zero"));
    }
    Ok(Sponsor { name: raw.name, verifier, reward: raw.reward.into_inner().0, budget: raw.budget.0 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use maxwell_core::agent::OnInsolvency;
    use maxwell_core::clearing::PricingRule;

    const AGENT: &str = "[[agent]]\nname = \"a\"\nmodule = \"leech\"\nwallet = \"1J\"\norder = { limit = \"5W\" }\n";

    fn error(text: &str) -> String {
        Scenario::parse(Path::new("dir/x.toml"), text).expect_err("must be refused").to_string()
    }

    #[test]
    fn a_small_scenario_is_understood() {
        let text = format!(
            "title = \"t\"\n[machine]\nslots = 3\npar = \"5W\"\nset = \"70C\"\nfast = {{ resistance = 2.0, tau = \"500ms\" }}\n\
             [policy]\npricing = \"vcg\"\ngrace = \"2s\"\n[[sponsor]]\nname = \"s\"\nverifier = \"hash\"\nbits = 9\nreward = \"5mJ\"\n\
             budget = \"1kJ\"\n{AGENT}count = 12\npacing = {{ lifetime = \"60s\" }}\ninsolvency = \"park\"\npower_class = 1.8\n\
             [[grant]]\nat = \"3s\"\nagent = \"a-07\"\namount = \"2J\"\n"
        );
        let scenario = Scenario::parse(Path::new("x.toml"), &text).unwrap();
        assert_eq!(scenario.policy.thermal.slots, 3);
        assert_eq!(scenario.policy.thermal.model.fast, FosterNode { resistance: 2.0, tau: 0.5 });
        assert_eq!(scenario.policy.pricing, PricingRule::Vcg);
        assert_eq!(scenario.sponsors[0].verifier, Verifier::Hash { bits: 9 });
        let group = &scenario.agents[0];
        assert_eq!((group.count, group.power_class, group.insolvency), (12, 1_800, OnInsolvency::Park));
        assert_eq!(group.lifetime, Some(Micros(60_000_000)));
        assert_eq!(group.names().nth(11).as_deref(), Some("a-11"));
    }

    const PROCESS: &str = "[[agent]]\nname = \"p\"\ncell = \"process\"\ncommand = [\"true\"]\nwallet = \"1J\"\n\
                           order = { limit = \"5W\" }\n";

    #[test]
    fn a_process_is_understood_and_what_is_not_said_has_its_default() {
        let plain = Scenario::parse(Path::new("dir/x.toml"), &format!("[machine]\nslots = 3\n{PROCESS}")).unwrap();
        let Program::Process(spec) = &plain.agents[0].program else { panic!("a process") };
        assert_eq!(
            **spec,
            ProcessSpec { command: vec!["true".into()], grace: GRACE, at: (6, 11), ..ProcessSpec::default() }
        );
        assert_eq!(plain.agents[0].slots, 3, "as many as there are");

        let text = PROCESS.replace("[\"true\"]", "\"seq 3 | sort\"").replace("5W\" }", "5W\", slots = 2 }")
            + "env = { A = \"b\" }\ncwd = \"data\"\nuser = \"nobody\"\nsandbox = \"write=/srv,no-session\"\noutput = \"p.log\"\n\
               limits = { memory = \"1GiB\", pids = 9, files = 99 }\ngrace = \"5s\"\nwait_all = true\n";
        let full = Scenario::parse(Path::new("dir/x.toml"), &text).unwrap();
        let Program::Process(spec) = &full.agents[0].program else { panic!("a process") };
        assert_eq!(full.agents[0].slots, 2);
        assert_eq!(spec.command, ["/bin/sh", "-c", "seq 3 | sort"]);
        assert_eq!(spec.env.get("A").map(String::as_str), Some("b"));
        assert_eq!(spec.cwd.as_deref(), Some(Path::new("dir/data")));
        assert_eq!(spec.user.as_deref(), Some("nobody"));
        assert!(!spec.sandbox.session && spec.sandbox.write == [PathBuf::from("/srv")]);
        assert_eq!(spec.streams, maxwell_hypervisor::process::Streams::File("dir/p.log".into()));
        assert_eq!((spec.memory, spec.pids, spec.files), (Some(Bytes(1 << 30)), Some(9), Some(99)));
        assert_eq!((spec.grace, spec.wait_all), (std::time::Duration::from_secs(5), true));
    }

    #[test]
    fn errors_about_processes_name_the_line_and_the_remedy() {
        let wasm = |more: &str| format!("{AGENT}{more}\n");
        let process = |more: &str| format!("{PROCESS}{more}\n");
        let cases = [
            (
                wasm("command = \"true\"").replace("module = \"leech\"\n", ""),
                "dir/x.toml:5:11",
                "only `cell = \"process\"`",
            ),
            (wasm("cell = \"process\""), "dir/x.toml:2:8", "a process needs a `command`"),
            (process("module = \"leech\""), "dir/x.toml:7:10", "a `command` and no `module`"),
            (AGENT.replace("module = \"leech\"\n", ""), "dir/x.toml:2:8", "missing field `module`"),
            (wasm("cell = \"container\""), "dir/x.toml:6:8", "unknown variant `container`"),
            (wasm("env = { A = \"b\" }"), "dir/x.toml:6:7", "for processes only"),
            (wasm("cwd = \"/\""), "dir/x.toml:6:7", "for processes only"),
            (wasm("user = \"nobody\""), "dir/x.toml:6:8", "for processes only"),
            (wasm("sandbox = \"off\""), "dir/x.toml:6:11", "for processes only"),
            (wasm("output = \"log\""), "dir/x.toml:6:10", "for processes only"),
            (wasm("limits = { pids = 3 }"), "dir/x.toml:6:10", "for processes only"),
            (wasm("grace = \"1s\""), "dir/x.toml:6:9", "for processes only"),
            (wasm("wait_all = true"), "dir/x.toml:6:12", "for processes only"),
            (AGENT.replace("5W\" }", "5W\", slots = 2 }"), "dir/x.toml:5:", "one core at a time"),
            (PROCESS.replace("5W\" }", "5W\", slots = 0 }"), "dir/x.toml:6:", "one slot at least"),
            (PROCESS.replace("[\"true\"]", "[]"), "dir/x.toml:4:11", "a command needs a name"),
            (PROCESS.replace("[\"true\"]", "[\"\"]"), "dir/x.toml:4:11", "a command needs a name"),
            (PROCESS.replace("[\"true\"]", "[\"true\", \"\\u0000\"]"), "dir/x.toml:4:11", "zero byte"),
            (PROCESS.replace("[\"true\"]", "7"), "dir/x.toml:4:11", "one string for the shell, or a list of words"),
            (process("env = { \"A=B\" = \"c\" }"), "dir/x.toml:7:7", "`A=B` cannot be in an environment"),
            (process("sandbox = \"none\""), "dir/x.toml:7:11", "`none` is no sandbox word"),
            (process("sandbox = \"allow=open\""), "dir/x.toml:7:11", "not among the calls"),
            (process("limits = { pids = 0 }"), "dir/x.toml:7:10", "a limit of zero"),
            (process("limits = { memory = \"1G\" }"), "dir/x.toml:7:21", "unit"),
            (process("limits = { cores = 1 }"), "dir/x.toml:7:12", "unknown field `cores`"),
            (process("grace = \"2min\""), "dir/x.toml:7:9", ""),
            (process("grace = \"61s\""), "dir/x.toml:7:9", "a minute at most"),
        ];
        for (text, place, what) in cases {
            let error = error(&text);
            assert!(error.starts_with(place) && error.contains(what), "{error}\nwanted {place} … {what}");
        }
    }

    #[test]
    fn errors_name_the_line_and_the_remedy() {
        let cases = [
            (format!("{AGENT}walet = \"3J\"\n"), "dir/x.toml:6:1", "unknown field `walet`"),
            (AGENT.replace("1J", "1"), "dir/x.toml:4:10", "no unit"),
            (AGENT.replace("\"1J\"", "1"), "dir/x.toml:4:10", "number with its unit in quotes"),
            (AGENT.replace("5W", "5 parsecs"), "dir/x.toml:5:", "unknown unit `parsecs`"),
            (AGENT.replace("leech", "nowhere.wat"), "dir/x.toml:3:10", "dir/nowhere.wat cannot be read"),
            (format!("[machine]\nset = \"94C\"\n{AGENT}"), "dir/x.toml:2:7", "7°C below critical"),
            (format!("[machine]\nslots = 0\n{AGENT}"), "dir/x.toml:2:9", "between 1 and 1024"),
            (format!("[machine]\nslots = 2\nquality = [1.0]\n{AGENT}"), "dir/x.toml:3:11", "each of the 2 slots"),
            (format!("[policy]\ntick = \"5us\"\n{AGENT}"), "dir/x.toml:2:8", "1ms to 1s"),
            (format!("[policy]\npricing = \"dutch\"\n{AGENT}"), "dir/x.toml:2:11", "unknown variant `dutch`"),
            (format!("[policy]\nslew = nan\n{AGENT}"), "dir/x.toml:2:8", "must lie between"),
            (
                format!("{AGENT}[[grant]]\nat = \"1s\"\nagent = \"b\"\namount = \"1J\"\n"),
                "dir/x.toml:8:9",
                "no agent is called `b`",
            ),
            (format!("{AGENT}count = 40_000\n"), "dir/x.toml:", "more than the 30000"),
            (String::new(), "dir/x.toml:1:1", "no agent to run"),
            ("[[agent]\n".to_owned(), "dir/x.toml:1:", ""),
        ];
        for (text, place, what) in cases {
            let error = error(&text);
            assert!(error.starts_with(place) && error.contains(what), "{error}\nwanted {place} … {what}");
        }
        let missing = Scenario::load(Path::new("/no/such/file.toml")).unwrap_err().to_string();
        assert!(missing.contains("/no/such/file.toml") && missing.contains("scenarios/demo.toml"), "{missing}");
    }
}
