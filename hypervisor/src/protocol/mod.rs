//! The protocol of agents and of people: JSON-RPC 2.0, one message a line. See `docs/agent-protocol.md`.
//!
//! ```text
//!   agent process ◄─ socketpair ─► Broker ─► Session ─► Verb ─► serve ─► Account, Board ◄─ cells, market thread
//!   maxwell fund  ◄─ unix socket ─► control::Server ─► Session ─► Request ─► queue ─────► market thread
//! ```
//!
//! * [`message`] says what a line means, [`session`] is a conversation without its socket, [`fault`] what errors say.
//! * [`verb`] reads what agents ask for, [`account`] is what they share with the market, [`desk`] answers.
//! * [`broker`] is the one thread that serves all agents; [`control`] serves and asks running instances.
//!
//! A transport moves bytes between a socket and a [`session::Session`] and knows nothing else.

pub mod account;
pub mod broker;
mod connection;
pub mod control;
pub mod desk;
pub mod fault;
mod lines;
pub mod message;
mod poll;
mod rate;
pub mod session;
pub mod verb;

pub use self::lines::LINE_MAX;
