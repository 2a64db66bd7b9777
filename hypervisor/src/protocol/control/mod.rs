//! The control socket of a running Maxwell: what `maxwell ps`, `fund`, `bid`, `park` and `kill` speak to.
//!
//! ```text
//!   Client ── line ──► Server's thread ── Ask, bounded queue ──► market thread
//!          ◄─ line ───                 ◄── Ask::answer ────────  (in its own time, once a tick)
//! ```
//!
//! Same lines as for agents, other verbs. An answer waits for the market's decision; one that ends without deciding is
//! answered for ([`Code::Undecided`]), so that nobody waits for ever. Only the same user and root are heard.

mod client;
mod directory;
mod server;

use std::io;
use std::path::PathBuf;

use maxwell_core::{AgentId, Joule, Price};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub use self::client::Client;
pub use self::directory::{Directory, Instance};
pub use self::server::{Ask, Server};
use super::fault::{Code, Fault, quoted};
use super::message::Params;
use super::verb::{amount, price};

/// The most agents in one answer to `list`; the rest are asked for with `from`.
pub const PAGE: u64 = 100;
/// How many requests may wait for the market.
pub const QUEUE: usize = 64;
/// The longest name of an agent that is looked for.
const NAME_MAX: usize = 128;

/// What can go wrong with control sockets.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// No place for sockets is known.
    #[error(
        "no directory for control sockets: XDG_RUNTIME_DIR is not set; log in properly, or set it to a directory of your own"
    )]
    NoDirectory,
    /// The directory is not safe.
    #[error("{path} is not a directory of this user alone: remove it, or `chmod 700` it")]
    Unsafe {
        /// Which.
        path: PathBuf,
    },
    /// A name that cannot be an instance's.
    #[error("`{id}` is no name for an instance: 1 to 32 letters, digits, `-` and `_`")]
    BadName {
        /// The name, shortened.
        id: String,
    },
    /// An instance with that name is running.
    #[error("an instance `{id}` is already running: choose another name")]
    Running {
        /// Its name.
        id: String,
    },
    /// A file or socket operation failed.
    #[error("{path}: {source}")]
    Io {
        /// On what.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Nobody answers behind a socket.
    #[error("no instance answers at {path}: it has ended; `maxwell ps` shows those that run")]
    Gone {
        /// Which.
        path: PathBuf,
    },
    /// The instance did not answer in time.
    #[error("the instance at {path} did not answer in time: it may be stopped; try again")]
    Timeout {
        /// Which.
        path: PathBuf,
    },
    /// The instance answers nonsense.
    #[error("the instance at {path} does not speak this protocol: {what}")]
    Garbled {
        /// Which.
        path: PathBuf,
        /// What was wrong.
        what: String,
    },
    /// The instance refused.
    #[error("{message}")]
    Refused {
        /// The error's number.
        code: i64,
        /// The stable word, if there is one.
        reason: Option<String>,
        /// In words.
        message: String,
    },
}

impl ControlError {
    fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }
}

/// Which agent is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// The only one there is.
    Only,
    /// By number.
    Id(AgentId),
    /// By name.
    Name(String),
}

impl Which {
    fn read(value: Option<Value>) -> Result<Self, Fault> {
        match value {
            None => Ok(Self::Only),
            Some(Value::Number(number)) if number.is_u64() => {
                Ok(Self::Id(AgentId(number.as_u64().unwrap_or_default())))
            }
            Some(Value::String(name)) if name.len() <= NAME_MAX => Ok(Self::Name(name)),
            Some(_) => Err(Fault::params("`agent` must be a number or a name")),
        }
    }
}

/// What a person asks of the market.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Agents from number `from` on, at most `count`.
    List {
        /// The first.
        from: AgentId,
        /// At most [`PAGE`].
        count: u64,
    },
    /// Money for an agent.
    Fund {
        /// For whom.
        agent: Which,
        /// How much.
        amount: Joule,
    },
    /// Parks an agent.
    Park {
        /// Whom.
        agent: Which,
    },
    /// Ends an agent, gracefully.
    Kill {
        /// Whom.
        agent: Which,
    },
    /// A new limit for an agent's standing order.
    Bid {
        /// Whose.
        agent: Which,
        /// The most it will pay for a core-second.
        limit: Price,
    },
}

impl Request {
    /// Reads a verb.
    ///
    /// # Errors
    ///
    /// [`Code::MethodNotFound`] or [`Code::InvalidParams`].
    pub fn parse(method: &str, params: Params) -> Result<Self, Fault> {
        match method {
            "list" => {
                let [from, count] = params.fields(["from", "count"])?;
                let number = |name: &str, value: Option<Value>, default: u64| match value {
                    None => Ok(default),
                    Some(value) => {
                        value.as_u64().ok_or_else(|| Fault::params(format!("`{name}` must be a whole number")))
                    }
                };
                let count = number("count", count, PAGE)?.clamp(1, PAGE);
                Ok(Self::List { from: AgentId(number("from", from, 0)?), count })
            }
            "fund" => {
                let [agent, sum] = params.fields(["agent", "amount"])?;
                Ok(Self::Fund { agent: Which::read(agent)?, amount: amount("amount", sum)? })
            }
            "bid" => {
                let [agent, limit] = params.fields(["agent", "limit"])?;
                Ok(Self::Bid { agent: Which::read(agent)?, limit: price("limit", limit)? })
            }
            "park" => params.fields(["agent"]).and_then(|[agent]| Ok(Self::Park { agent: Which::read(agent)? })),
            "kill" => params.fields(["agent"]).and_then(|[agent]| Ok(Self::Kill { agent: Which::read(agent)? })),
            other => {
                let text = format!("no verb `{}`; known: hello, list, fund, bid, park, kill", quoted(other));
                Err(Fault::new(Code::MethodNotFound, text))
            }
        }
    }
}

/// An agent, as people see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentRow {
    /// Its number.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// Where it is in life: [`maxwell_core::agent::Agent::state`].
    pub state: String,
    /// Why: [`maxwell_core::reason::Reason::code`].
    pub reason: String,
    /// Why, in words.
    pub text: String,
    /// What it can spend, in nJ.
    pub wallet: u64,
    /// What it has paid so far, in nJ.
    pub spent: u64,
    /// Core time it has used, in µs.
    pub core_us: u64,
    /// The limit of its order, in mW.
    pub bid: u64,
}

/// The market's decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// For `list`: some agents, and the number to go on from if there are more.
    Agents {
        /// The agents.
        agents: Vec<AgentRow>,
        /// Where to go on.
        next: Option<AgentId>,
    },
    /// For everything else: the agent as it is after the decision.
    Agent(AgentRow),
}

impl Answer {
    fn value(self) -> Value {
        match self {
            Self::Agents { agents, next } => json!({"agents": agents, "next": next.map(|id| id.0)}),
            Self::Agent(agent) => json!({"agent": agent}),
        }
    }
}

/// What the market says instead of an answer.
impl Fault {
    /// There is no such agent, or it is not plain which is meant.
    pub fn unknown_agent(which: &Which) -> Self {
        let text = match which {
            Which::Only => "there is more than one agent, or none: say which".to_owned(),
            Which::Id(id) => format!("there is no agent {id}"),
            Which::Name(name) => format!("there is no agent `{}`", quoted(name)),
        };
        Self::ours(Code::UnknownAgent, "unknown_agent", text)
    }

    /// The market decided against it; `reason` is a stable word.
    pub fn refused(reason: &'static str, message: impl Into<String>) -> Self {
        Self::ours(Code::Refused, reason, message)
    }
}
