//! Temporary.
#![allow(missing_docs, clippy::allow_attributes, clippy::allow_attributes_without_reason)]
pub const HANDSHAKES_REFUSED: &str = "handoff_handshakes_refused_total";
pub const SESSIONS_OPENED: &str = "handoff_sessions_opened_total";
pub const SESSIONS: &str = "handoff_sessions";
pub const SESSIONS_JOINED: &str = "handoff_sessions_joined_total";
pub const SESSION_JOIN_WAIT: &str = "handoff_session_join_wait_seconds";
pub const JOINS_REFUSED: &str = "handoff_joins_refused_total";
pub const RESUMES: &str = "handoff_resumes_total";
pub const FRAMES_RELAYED: &str = "handoff_frames_relayed_total";
pub const FRAME_BYTES_RELAYED: &str = "handoff_frame_bytes_relayed_total";
pub const FRAMES_DROPPED: &str = "handoff_frames_dropped_total";
pub const CONNECTIONS_CLOSED: &str = "handoff_connections_closed_total";
pub const SESSIONS_ENDED: &str = "handoff_sessions_ended_total";
pub const SESSION_DURATION: &str = "handoff_session_duration_seconds";
pub const DEADLINE_OVERSHOOT: &str = "handoff_deadline_overshoot_seconds";
pub fn render(h: &metrics_exporter_prometheus::PrometheusHandle) -> String { h.render() }
