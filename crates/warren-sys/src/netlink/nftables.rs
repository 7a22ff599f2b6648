//! nf_tables: tables, chains, sets and rules, changed in transactions.
//!
//! A [`Batch`] collects changes to one table of the `inet` family and is applied as a whole or
//! not at all. A rule is a list of [`Expression`]s which the kernel runs in order on each
//! packet until one does not match. Values pass through one register.
//!
//! All integers of this family are in network byte order, except what is compared with a value
//! that the kernel itself keeps in the host's (interface groups, connection states).

use super::{
    NetlinkError, Socket,
    message::{Request, flags},
};

mod encode;
mod expression;
mod numbers;
mod sets;

use numbers::{attribute, kind};

pub use expression::{
    Direction, ESTABLISHED, Expression, Family, Header, Meta, NEW, RELATED, Reject, Verdict,
};
pub use sets::{Elements, Keys, Range, counted, interface_key};

/// The group of [`Socket::subscribe`] that all changes of tables are announced to.
pub const EVENTS: u32 = 1 << 6;

const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NFPROTO_UNSPEC: u8 = 0;
const NFPROTO_INET: u8 = 1;
/// The number of the kind of objects that count.
const OBJECT_COUNTER: u32 = 1;

/// Where in a packet's way a base chain is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Hook {
    /// As it comes in.
    Prerouting = 0,
    /// When it is for this host.
    Input = 1,
    /// When it passes through.
    Forward = 2,
    /// When this host made it.
    Output = 3,
    /// As it leaves.
    Postrouting = 4,
}

/// A chain that the kernel itself calls; what no rule decides is accepted.
#[derive(Clone, Copy, Debug)]
pub struct BaseChain {
    /// `filter` or `nat`.
    pub kind: &'static str,
    /// Where.
    pub hook: Hook,
    /// Order among chains of the same hook: lower comes first.
    pub priority: i32,
}
/// Changes to one `inet` table, applied together.
#[derive(Clone, Debug)]
pub struct Batch<'a> {
    table: &'a str,
    requests: Vec<Request>,
    sets: u32,
}

impl<'a> Batch<'a> {
    /// Starts a batch for this table.
    pub fn new(table: &'a str) -> Self {
        Self { table, requests: vec![marker(BATCH_BEGIN)], sets: 0 }
    }

    /// Makes the table; one that exists stays as it is.
    pub fn create_table(&mut self) -> &mut Self {
        let mut request = message(kind::NEW_TABLE, flags::CREATE);
        request.text(attribute::TABLE_NAME, self.table);
        self.push(request)
    }

    /// Removes the table with all that is in it.
    pub fn delete_table(&mut self) -> &mut Self {
        let mut request = message(kind::DELETE_TABLE, 0);
        request.text(attribute::TABLE_NAME, self.table);
        self.push(request)
    }

    /// Makes a chain that rules jump to.
    pub fn create_chain(&mut self, name: &str) -> &mut Self {
        let mut request = message(kind::NEW_CHAIN, flags::CREATE);
        request.text(attribute::CHAIN_TABLE, self.table).text(attribute::CHAIN_NAME, name);
        self.push(request)
    }

    /// Makes a chain that the kernel calls.
    pub fn create_base_chain(&mut self, name: &str, base: BaseChain) -> &mut Self {
        const ACCEPT: u32 = 1;
        let mut request = message(kind::NEW_CHAIN, flags::CREATE);
        request
            .text(attribute::CHAIN_TABLE, self.table)
            .text(attribute::CHAIN_NAME, name)
            .nested(attribute::CHAIN_HOOK, |hook| {
                hook.be32(attribute::HOOK_NUMBER, base.hook as u32)
                    .bytes(attribute::HOOK_PRIORITY, &base.priority.to_be_bytes());
            })
            .be32(attribute::CHAIN_POLICY, ACCEPT)
            .text(attribute::CHAIN_TYPE, base.kind);
        self.push(request)
    }

    /// Adds a rule at the end of a chain.
    pub fn add_rule(&mut self, chain: &str, expressions: &[Expression<'_>]) -> &mut Self {
        let mut request = message(kind::NEW_RULE, flags::CREATE | flags::APPEND);
        request.text(attribute::RULE_TABLE, self.table).text(attribute::RULE_CHAIN, chain).nested(
            attribute::RULE_EXPRESSIONS,
            |list| {
                for expression in expressions {
                    expression.encode(list);
                }
            },
        );
        self.push(request)
    }

    /// Applies all changes, or none.
    ///
    /// # Errors
    ///
    /// The first refusal.
    pub fn apply(
        mut self,
        socket: &mut Socket,
        operation: &'static str,
    ) -> Result<(), NetlinkError> {
        // One answer for all of them: what is refused is answered in any case, and the answers to a
        // long batch would not fit into the socket.
        self.requests.iter_mut().skip(1).next_back().into_iter().for_each(Request::ask_ack);
        self.requests.push(marker(BATCH_END));
        socket.transact(operation, &mut self.requests)
    }

    fn push(&mut self, request: Request) -> &mut Self {
        self.requests.push(request);
        self
    }
}

/// Whether there is an `inet` table of this name.
///
/// # Errors
///
/// As [`Socket::get`], except that a missing table is `false`.
pub fn table_exists(socket: &mut Socket, name: &str) -> Result<bool, NetlinkError> {
    let mut request = message(kind::GET_TABLE, 0);
    request.text(attribute::TABLE_NAME, name);
    match socket.get("look up a table of packet filters", request) {
        Ok(_) => Ok(true),
        Err(error) if error.errno() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether a chain of an `inet` table is there and has rules.
///
/// # Errors
///
/// As [`Socket::list`].
pub fn has_rules(socket: &mut Socket, table: &str, chain: &str) -> Result<bool, NetlinkError> {
    let mut request = message(kind::GET_RULE, flags::DUMP);
    request.text(attribute::RULE_TABLE, table).text(attribute::RULE_CHAIN, chain);
    let rules = socket.list("list the rules of a chain", request)?;
    // Kernels that know no such filter list all.
    let is_of = |answer: &super::message::Answer| {
        let (_, attributes) = answer.split::<4>()?;
        let named = attributes.find_text(attribute::RULE_TABLE)? == table
            && attributes.find_text(attribute::RULE_CHAIN)? == chain;
        named.then_some(())
    };
    Ok(rules.iter().any(|rule| is_of(rule).is_some()))
}

/// How many elements a set of an `inet` table has.
///
/// # Errors
///
/// As [`Socket::list`].
pub fn elements(socket: &mut Socket, table: &str, set: &str) -> Result<usize, NetlinkError> {
    let mut request = message(kind::GET_ELEMENTS, flags::DUMP);
    request.text(attribute::ELEMENTS_TABLE, table).text(attribute::ELEMENTS_SET, set);
    let answers = socket.list("list the elements of a set", request)?;
    let count = |answer: &super::message::Answer| {
        let (_, attributes) = answer.split::<4>()?;
        let list = super::message::Attributes::new(attributes.find(attribute::ELEMENTS_LIST)?);
        Some(list.count())
    };
    Ok(answers.iter().filter_map(count).sum())
}

/// Names of all `inet` tables.
///
/// # Errors
///
/// As [`Socket::list`].
pub fn tables(socket: &mut Socket) -> Result<Vec<String>, NetlinkError> {
    let request = message(kind::GET_TABLE, flags::DUMP);
    let answers = socket.list("list tables of packet filters", request)?;
    let name = |answer: &super::message::Answer| {
        let (_, attributes) = answer.split::<4>()?;
        attributes.find_text(attribute::TABLE_NAME).map(str::to_owned)
    };
    Ok(answers.iter().filter_map(name).collect())
}

/// A message of the subsystem; its fixed header is family, version and a resource number.
fn message(kind: u16, flags: u16) -> Request {
    Request::new(SUBSYSTEM << 8 | kind, flags, &[NFPROTO_INET, 0, 0, 0])
}

/// The message that begins or ends a transaction of the subsystem.
fn marker(kind: u16) -> Request {
    let [high, low] = SUBSYSTEM.to_be_bytes();
    Request::new(kind, 0, &[NFPROTO_UNSPEC, 0, high, low])
}
