//! Commands out of texts: the lines that a person would copy into a shell, in words.

/// The `handoff` commands in a text: lines that begin with it, after a prompt, variables or a pipe.
pub(crate) fn commands(text: &str) -> Vec<Vec<String>> {
    text.lines().filter_map(handoff_words).collect()
}

/// The words of a line that runs `handoff`, from there on. Two spaces begin a remark.
pub(crate) fn handoff_words(line: &str) -> Option<Vec<String>> {
    let line = line.trim().trim_start_matches("$ ");
    let line = line.split("  ").next().unwrap_or_default();
    // No example has a pipe or an angle bracket in quotes.
    let line = line.rsplit("| ").next().unwrap_or_default();
    let line = line.split(" > ").next().unwrap_or_default();
    let words = line.split_whitespace().map(|word| word.trim_matches('\'').to_owned());
    let words: Vec<String> = words.skip_while(|word| word.contains('=') && word.starts_with("HANDOFF_")).collect();
    (words.first()? == "handoff").then_some(words)
}
