//! Every metric of the relay in one table: name, kind, labels, unit and help.
//!
//! Names carry the prefix and the base unit, labels are few and their values finite; no label names a person, an
//! address or a session. To add a metric, add a row; it is described and, where its labels' values are known,
//! registered at start, so that a rate over it is right from the first event on.

use metrics::Unit;

use crate::protocol::Role;
use crate::protocol::close::{CloseReason, Scope};

/// What kind of metric a row is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Only goes up.
    Counter,
    /// Goes up and down.
    Gauge,
    /// A distribution over buckets with these upper bounds.
    Histogram(&'static [f64]),
}

/// A label and its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Label {
    /// `role`: which app.
    Role,
    /// `from`: which app sent it.
    From,
    /// `state`: how far a session is.
    State,
    /// `reason`: why a connection was closed.
    CloseReason,
    /// `reason`: why a session ended.
    EndReason,
    /// `reason`: why a join was refused.
    JoinRefusal,
    /// `outcome`: what became of a resume.
    ResumeOutcome,
    /// `path`: which part of the way through the relay.
    HopPath,
    /// `queue`: between nodes, in which direction.
    NodeQueue,
    /// `reason`: why a handshake was refused.
    HandshakeRefusal,
    /// `limit`: which limit was reached.
    Limit,
    /// `reason`: what went wrong with Redis.
    RedisError,
    /// `outcome`: how an SMS ended.
    SmsOutcome,
    /// `outcome`: how one attempt at a gateway ended.
    SmsAttempt,
    /// `gateway`: the preferred one, or another.
    SmsGateway,
    /// `rule`: why no SMS was sent.
    SmsRule,
    /// `status`: what a gateway reported about a message.
    SmsDelivery,
    /// `way`: on this phone, or on another.
    ActivationWay,
    /// `reason`: why an activation is over without an app.
    ActivationEnd,
    /// `step`: what is done in an activation.
    ActivationStep,
    /// `outcome`: what became of a step.
    StepOutcome,
    /// `outcome`: what a typed temporary PIN came to.
    TemporaryPin,
    /// `outcome`: how opening an app with the personal PIN ended.
    PinLogin,
    /// `outcome`: how telling the push service ended.
    NotifyOutcome,
    /// `version`: of this binary.
    Version,
}

/// Why an activation can be over without an app (a test of the activation compares).
pub const ACTIVATION_ENDS: &[&str] = &["expired", "cancelled", "user_id_wrong", "pins_used_up", "grantor_gone"];

/// How an SMS can end; unknown: the process died meanwhile.
pub const SMS_OUTCOMES: &[&str] = &["sent", "failed", "queue_full", "unknown"];

/// How an attempt at a gateway can end (a test of the sender compares).
pub const SMS_ATTEMPT_OUTCOMES: &[&str] =
    &["accepted", "unreachable", "timeout", "busy", "failed", "refused", "nonsense", "full", "resting"];

/// Why no SMS is sent (a test of the activation compares).
pub const SMS_RULES: &[&str] = &["in_all", "per_address", "per_number", "number_too_new"];

/// What a gateway can report (a test of the activation compares).
pub const SMS_DELIVERIES: &[&str] = &["delivered", "failed", "under_way", "forged"];

/// What a temporary PIN can come to (a test of the activation compares).
pub const TEMPORARY_PIN_OUTCOMES: &[&str] = &["right", "wrong", "expired", "used_up"];

/// How opening an app can end.
pub const PIN_LOGIN_OUTCOMES: &[&str] = &["answered", "right", "wrong", "waiting", "locked"];

/// How telling the push service can end.
pub const NOTIFY_OUTCOMES: &[&str] = &["delivered", "refused", "failed", "expired"];

/// The states of a session that is not over.
pub const SESSION_STATES: &[&str] = &["waiting", "joined"];

/// Why a join is refused without ending the session.
pub const JOIN_REFUSALS: &[CloseReason] =
    &[CloseReason::StaleFrame, CloseReason::BadJoinProof, CloseReason::UnknownSession];

/// What becomes of a resume (a test of the relay compares).
pub const RESUME_OUTCOMES: &[&str] =
    &["resumed", "nothing_to_resume", "too_many_resumes", "ended", "superseded", "overloaded"];

/// From one socket to the other here; from a socket until Redis has it; from Redis to a socket.
pub const HOP_PATHS: &[&str] = &["here", "to_node", "from_node"];

/// One frame in so many is measured on its way. A relay spends no time on the others.
pub const HOP_SAMPLE: u64 = 8;

/// The queues between nodes: what waits for Redis, and what came from it.
pub const NODE_QUEUES: &[&str] = &["out", "in"];

/// The steps of an activation (a test of the activation compares).
pub const ACTIVATION_STEPS_KNOWN: &[&str] =
    &["user_id", "send_pin", "temporary_pin", "personal_pin", "biometrics", "notifications"];

/// What becomes of a step.
pub const STEP_OUTCOMES: &[&str] = &["taken", "repeated", "refused"];

/// The problem codes that a handshake can be refused with (a test of the edge compares).
pub const HANDSHAKE_REFUSALS: &[&str] = &[
    "bad-handshake",
    "bad-session-id",
    "going-away",
    "internal-error",
    "not-found",
    "not-ready",
    "origin-not-allowed",
    "overloaded",
    "subprotocol-missing",
    "too-many-connections",
    "too-many-handshakes",
    "too-many-opens",
    "upgrade-required",
];

/// The limits of admission (a test of the edge compares).
pub const LIMITS: &[&str] =
    &["connections", "connections_per_address", "handshakes_per_address", "opens_per_address", "opens", "addresses"];

/// What can go wrong with Redis (a test of the directory compares).
pub const REDIS_ERRORS_KNOWN: &[&str] =
    &["unreachable", "timeout", "refused", "out_of_memory", "read_only", "bad_record"];

impl Label {
    /// The label's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Role => "role",
            Self::From => "from",
            Self::State => "state",
            Self::ActivationEnd
            | Self::CloseReason
            | Self::EndReason
            | Self::JoinRefusal
            | Self::HandshakeRefusal
            | Self::RedisError => "reason",
            Self::Limit => "limit",
            Self::HopPath => "path",
            Self::NodeQueue => "queue",
            Self::ActivationWay => "way",
            Self::ActivationStep => "step",
            Self::ResumeOutcome
            | Self::StepOutcome
            | Self::SmsOutcome
            | Self::SmsAttempt
            | Self::TemporaryPin
            | Self::PinLogin
            | Self::NotifyOutcome => "outcome",
            Self::SmsGateway => "gateway",
            Self::SmsRule => "rule",
            Self::SmsDelivery => "status",
            Self::Version => "version",
        }
    }

    /// Every value that the label can have.
    #[must_use]
    pub fn values(self) -> Vec<&'static str> {
        let reasons = CloseReason::ALL.iter();
        match self {
            Self::Role | Self::From => Role::BOTH.map(Role::as_str).to_vec(),
            Self::State => SESSION_STATES.to_vec(),
            Self::CloseReason => reasons.map(|reason| reason.label()).collect(),
            Self::EndReason => {
                reasons.filter(|reason| reason.scope() == Scope::Session).map(|reason| reason.label()).collect()
            }
            Self::JoinRefusal => JOIN_REFUSALS.iter().map(|reason| reason.label()).collect(),
            Self::HandshakeRefusal => HANDSHAKE_REFUSALS.to_vec(),
            Self::Limit => LIMITS.to_vec(),
            Self::ResumeOutcome => RESUME_OUTCOMES.to_vec(),
            Self::HopPath => HOP_PATHS.to_vec(),
            Self::NodeQueue => NODE_QUEUES.to_vec(),
            Self::ActivationWay => vec!["this_phone", "other_phone"],
            Self::ActivationEnd => ACTIVATION_ENDS.to_vec(),
            Self::ActivationStep => ACTIVATION_STEPS_KNOWN.to_vec(),
            Self::StepOutcome => STEP_OUTCOMES.to_vec(),
            Self::RedisError => REDIS_ERRORS_KNOWN.to_vec(),
            Self::SmsOutcome => SMS_OUTCOMES.to_vec(),
            Self::SmsAttempt => SMS_ATTEMPT_OUTCOMES.to_vec(),
            Self::SmsGateway => vec!["preferred", "fallback"],
            Self::SmsRule => SMS_RULES.to_vec(),
            Self::SmsDelivery => SMS_DELIVERIES.to_vec(),
            Self::TemporaryPin => TEMPORARY_PIN_OUTCOMES.to_vec(),
            Self::PinLogin => PIN_LOGIN_OUTCOMES.to_vec(),
            Self::NotifyOutcome => NOTIFY_OUTCOMES.to_vec(),
            Self::Version => vec![env!("CARGO_PKG_VERSION")],
        }
    }
}

/// One row.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// The name.
    pub name: &'static str,
    /// The kind.
    pub kind: Kind,
    /// The unit, where it has one.
    pub unit: Option<Unit>,
    /// The labels.
    pub labels: &'static [Label],
    /// One sentence for operators.
    pub help: &'static str,
}

/// How long people take, in seconds, up to the hard lifetime.
const PEOPLE_SECONDS: &[f64] = &[1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 45.0, 60.0, 90.0, 120.0, 180.0];

/// How long an app and its network take to answer, in seconds.
const APP_SECONDS: &[f64] = &[0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// How late a timer may be, in seconds; a quarter of a second is promised.
const TIMER_SECONDS: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5];

/// How long Redis takes, in seconds; after two a command is given up.
const REDIS_SECONDS: &[f64] = &[0.000_25, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0];

/// How long gateways and phones take, in seconds; with one gateway that hangs, sending is given up after 17.
const SMS_SECONDS: &[f64] = &[0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 60.0, 300.0];

/// How long a frame takes through the relay, in seconds.
const HOP_SECONDS: &[f64] =
    &[0.000_05, 0.0001, 0.000_25, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0];

/// How long an activation takes, in seconds; after half an hour it is over, unless the settings say otherwise.
const ACTIVATION_SECONDS: &[f64] = &[15.0, 30.0, 60.0, 90.0, 120.0, 180.0, 300.0, 600.0, 1200.0, 1800.0];

/// Messages that wait for one socket, up to all that may.
const SOCKET_QUEUE: &[f64] = &[0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 48.0, 64.0];

/// Messages that wait between nodes, up to all that may.
const NODE_QUEUE: &[f64] = &[1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 2048.0, 3072.0, 4096.0];

macro_rules! metrics_table {
    ($($constant:ident = $name:literal, $kind:expr, $unit:expr, [$($label:ident),*], $help:literal;)*) => {
        $(#[doc = concat!("`", $name, "`: ", $help)] pub const $constant: &str = $name;)*

        /// Every metric that is counted through `metrics`, in the order of the table.
        pub const ALL: &[Metric] = &[$(
            Metric { name: $name, kind: $kind, unit: $unit, labels: &[$(Label::$label),*], help: $help },
        )*];
    };
}

metrics_table! {
    CONNECTIONS = "handoff_connections", Kind::Gauge, None, [Role], "WebSocket connections that are open.";
    CONNECTIONS_OPENED = "handoff_connections_opened_total", Kind::Counter, None, [Role],
        "WebSocket connections that were opened.";
    CONNECTIONS_CLOSED = "handoff_connections_closed_total", Kind::Counter, None, [Role, CloseReason],
        "WebSocket connections that the relay closed, by close reason.";
    SESSIONS = "handoff_sessions", Kind::Gauge, None, [State],
        "Sessions that are open on this node: waiting for the new app, or joined.";
    SESSIONS_OPENED = "handoff_sessions_opened_total", Kind::Counter, None, [], "Sessions that were opened.";
    SESSIONS_JOINED = "handoff_sessions_joined_total", Kind::Counter, None, [],
        "Sessions that the new app joined.";
    SESSIONS_ENDED = "handoff_sessions_ended_total", Kind::Counter, None, [EndReason],
        "Sessions that ended, by reason.";
    JOINED_ENDED = "handoff_joined_sessions_ended_total", Kind::Counter, None, [EndReason],
        "Sessions that ended after the new app had joined, by reason.";
    SESSION_JOIN_WAIT = "handoff_session_join_wait_seconds", Kind::Histogram(PEOPLE_SECONDS), Some(Unit::Seconds), [],
        "Time from opening a session to its join.";
    SESSION_DURATION = "handoff_session_duration_seconds", Kind::Histogram(PEOPLE_SECONDS), Some(Unit::Seconds), [],
        "Time from opening a session to its end.";
    SESSION_REPLY = "handoff_session_reply_seconds", Kind::Histogram(APP_SECONDS), Some(Unit::Seconds), [],
        "Time from the join to the first data frame of the old app, after which the new app can show the check code.";
    SESSION_TRANSFER = "handoff_session_transfer_seconds", Kind::Histogram(PEOPLE_SECONDS), Some(Unit::Seconds), [],
        "Time from the join to the completion, of sessions whose old app stayed with this node.";
    HOP = "handoff_hop_seconds", Kind::Histogram(HOP_SECONDS), Some(Unit::Seconds), [HopPath],
        "Time that a data frame takes through this node, of one in eight: from socket to socket here, from handing it \
         over until Redis has it, or from Redis to the socket.";
    FRAMES_RELAYED = "handoff_frames_relayed_total", Kind::Counter, None, [From],
        "Data frames that were passed on to the other app.";
    FRAME_BYTES_RELAYED = "handoff_frame_bytes_relayed_total", Kind::Counter, Some(Unit::Bytes), [From],
        "Bytes of the data frames that were passed on.";
    FRAMES_DROPPED = "handoff_frames_dropped_total", Kind::Counter, None, [From],
        "Data frames that were dropped because the other app was not connected; apps send them again.";
    JOINS_REFUSED = "handoff_joins_refused_total", Kind::Counter, None, [JoinRefusal],
        "Joins that were refused without ending the session, by reason.";
    RESUMES = "handoff_resumes_total", Kind::Counter, None, [Role, ResumeOutcome],
        "Lost connections that an app wanted to resume, by outcome.";
    RATE_LIMITED = "handoff_rate_limited_total", Kind::Counter, None, [Limit],
        "Connections and sessions that a limit refused, by limit.";
    HANDSHAKES_REFUSED = "handoff_handshakes_refused_total", Kind::Counter, None, [HandshakeRefusal],
        "WebSocket handshakes that were answered with an HTTP error, by its code.";
    SESSIONS_LIMIT = "handoff_sessions_limit", Kind::Gauge, None, [],
        "Sessions that may be open on this node at once.";
    CONNECTIONS_LIMIT = "handoff_connections_limit", Kind::Gauge, None, [],
        "Connections that this node may have at once.";
    READY = "handoff_ready", Kind::Gauge, None, [],
        "Whether this node takes new connections, as /readyz says: 1, or 0.";
    DRAINING = "handoff_draining", Kind::Gauge, None, [],
        "Whether this node was told to end and sends its sessions elsewhere: 1, or 0.";
    CONNECTION_QUEUE = "handoff_connection_queue_messages", Kind::Histogram(SOCKET_QUEUE), None, [],
        "Messages that waited for a socket when a measured frame reached it, itself included; with 64 before it the \
         connection is closed as too_slow.";
    SESSION_QUEUE_FULL = "handoff_session_queue_full_total", Kind::Counter, None, [],
        "Times that a socket stopped reading because its session had 64 messages waiting.";
    NODE_QUEUE_LENGTH = "handoff_node_queue_messages", Kind::Histogram(NODE_QUEUE), None, [NodeQueue],
        "Messages to and from other nodes that were waiting when some were taken; with 4096 more are dropped.";
    WORKER_LAG = "handoff_worker_lag_seconds", Kind::Histogram(TIMER_SECONDS), Some(Unit::Seconds), [],
        "How late a timer fires on the threads that serve connections: what an event waits before it is handled.";
    DEADLINE_OVERSHOOT = "handoff_deadline_overshoot_seconds", Kind::Histogram(TIMER_SECONDS), Some(Unit::Seconds), [],
        "Time from the deadline of an expired session to its end.";
    NEWS_DROPPED = "handoff_node_messages_dropped_total", Kind::Counter, None, [],
        "Messages between nodes that were dropped because a queue was full; apps send again, and sessions look again.";
    REDIS_UP = "handoff_redis_up", Kind::Gauge, None, [], "Whether Redis answers this node: 1, or 0.";
    REDIS_CONNECTS = "handoff_redis_connects_total", Kind::Counter, None, [],
        "Times that this node connected to Redis, the first included.";
    REDIS_ERRORS = "handoff_redis_errors_total", Kind::Counter, None, [RedisError],
        "Redis commands and connections that failed, by reason.";
    REDIS_COMMANDS = "handoff_redis_commands_total", Kind::Counter, None, [],
        "Commands that this node sent to Redis for sessions, the ones between nodes included.";
    REDIS_COMMAND_DURATION = "handoff_redis_command_duration_seconds", Kind::Histogram(REDIS_SECONDS),
        Some(Unit::Seconds), [], "Time that a transition of a session waited for Redis, retries included.";
    REDIS_INBOX_LAG = "handoff_redis_inbox_lag_seconds", Kind::Histogram(REDIS_SECONDS), Some(Unit::Seconds), [],
        "Time that a message to this node itself took through Redis, measured every second.";
    REDIS_RESTORED = "handoff_redis_routes_restored_total", Kind::Counter, None, [],
        "Session records that this node put back after Redis had lost them.";
    ACTIVATIONS_STARTED = "handoff_activation_starts_total", Kind::Counter, None, [ActivationWay],
        "Activations that were started, by way.";
    ACTIVATIONS_ENDED = "handoff_activation_ends_total", Kind::Counter, None, [ActivationEnd],
        "Activations that are over without an app; that one expired is noticed within ten minutes.";
    ACTIVATION_STEPS = "handoff_activation_steps_total", Kind::Counter, None, [ActivationStep, StepOutcome],
        "Steps of activations, by outcome; the last step, once taken, makes the app active.";
    ACTIVATION_DURATION = "handoff_activation_duration_seconds", Kind::Histogram(ACTIVATION_SECONDS),
        Some(Unit::Seconds), [], "Time from when an activation could start until its app was active.";
    SMS_SENDS = "handoff_sms_sends_total", Kind::Counter, None, [SmsOutcome],
        "SMS with temporary PINs, by whether a gateway took them.";
    SMS_ATTEMPTS = "handoff_sms_attempts_total", Kind::Counter, None, [SmsGateway, SmsAttempt],
        "Attempts to hand an SMS to a gateway, by outcome; full and resting ones did not reach it.";
    SMS_SEND_DURATION = "handoff_sms_send_duration_seconds", Kind::Histogram(SMS_SECONDS), Some(Unit::Seconds), [],
        "Time until a gateway took an SMS, or none did.";
    SMS_ATTEMPT_DURATION = "handoff_sms_attempt_duration_seconds", Kind::Histogram(SMS_SECONDS), Some(Unit::Seconds),
        [SmsGateway], "Time that a gateway took to answer one attempt, or until it was given up.";
    SMS_UNDER_WAY = "handoff_sms_under_way", Kind::Gauge, None, [], "SMS that are being sent.";
    SMS_REFUSED = "handoff_sms_refused_total", Kind::Counter, None, [SmsRule],
        "SMS that were not sent because of a limit, by limit.";
    SMS_DELIVERIES_REPORTED = "handoff_sms_deliveries_total", Kind::Counter, None, [SmsDelivery],
        "Delivery reports of gateways, by status; forged ones have no valid signature.";
    TEMPORARY_PIN_TRIES = "handoff_pin_temporary_tries_total", Kind::Counter, None, [TemporaryPin],
        "Temporary PINs that were typed, by outcome.";
    PIN_LOGINS = "handoff_pin_logins_total", Kind::Counter, None, [PinLogin],
        "Steps of opening an app with the personal PIN: answers given (each allows one guess), and how they ended.";
    NOTIFICATIONS = "handoff_activation_notifications_total", Kind::Counter, None, [NotifyOutcome],
        "Attempts to tell the push service of an event, by outcome; expired ones were tried for a day.";
    REGISTRY_ERRORS = "handoff_registry_errors_total", Kind::Counter, None, [],
        "Questions to the registry's database that it did not answer as it should.";
    BUILD_INFO = "handoff_build_info", Kind::Gauge, None, [Version], "Always 1; the version of this binary.";
    START_TIME = "process_start_time_seconds", Kind::Gauge, Some(Unit::Seconds), [],
        "Start of the process, in seconds since 1970.";
}
