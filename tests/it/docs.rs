//! The documents against the code: what they state is what the program does. Not their wording.

mod asyncapi;
mod protocol;
mod samples;

const PROTOCOL: &str = include_str!("../../docs/protocol.md");
const SECURITY: &str = include_str!("../../SECURITY.md");
const MODELS: &str = include_str!("../../docs/models/README.md");

/// The rows of the first Markdown table after `marker`, without its head; back quotes removed.
fn table_after(text: &str, marker: &str) -> Vec<Vec<String>> {
    let (_, after) = text.split_once(marker).unwrap_or_else(|| panic!("no {marker:?} in the document"));
    let lines = after.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    let cells = |line: &str| {
        let inner = line.trim().trim_start_matches('|').trim_end_matches('|');
        inner.split('|').map(|cell| cell.trim().replace('`', "")).collect()
    };
    lines.skip(2).map(cells).collect()
}

#[test]
fn every_relative_link_leads_to_a_file() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    for (text, folder) in [(PROTOCOL, "docs"), (SECURITY, ""), (MODELS, "docs/models")] {
        for (_, link) in text.match_indices("](").map(|(at, _)| text.split_at(at)) {
            let target = link.trim_start_matches("](").split(')').next().unwrap_or_default();
            let path = target.split('#').next().unwrap_or_default();
            if !path.contains("://") && !path.is_empty() {
                assert!(root.join(folder).join(path).exists(), "{folder}: {target}");
            }
        }
    }
}

#[test]
fn every_link_inside_a_document_leads_to_a_heading() {
    for text in [PROTOCOL, SECURITY] {
        let anchor = |heading: &str| {
            let kept = heading.trim_start_matches('#').trim().to_lowercase();
            kept.chars().filter(|c| c.is_alphanumeric() || " -".contains(*c)).collect::<String>().replace(' ', "-")
        };
        let anchors: Vec<String> = text.lines().filter(|line| line.starts_with('#')).map(anchor).collect();
        for link in text.split("](#").skip(1) {
            let target = link.split(')').next().unwrap_or_default();
            assert!(anchors.iter().any(|anchor| anchor == target), "#{target}");
        }
    }
}
