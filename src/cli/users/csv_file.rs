//! The file of an import: every line is checked, and every problem has its line. No problem repeats what stands there.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use csv::{ErrorKind, ReaderBuilder, StringRecord, Trim};
use zeroize::Zeroizing;

use crate::activation::ids::{PhoneNumber, UserId};
use crate::activation::service::NewUser;
use crate::cli::admin::Person;
use crate::cli::exit::{Exit, Failure};
use crate::cli::files::FileError;

/// The columns.
const COLUMNS: [&str; 3] = ["user_id", "name", "phone"];

/// Problems that are told; the rest is counted.
const MOST_TOLD: usize = 20;

/// Problems of a file, in the order of its lines.
#[derive(Debug, Default, PartialEq, Eq)]
struct Problems(Vec<(u64, String)>);

/// Reads a file whole.
pub(super) fn read(path: &Path) -> Result<Vec<Person>, Failure> {
    let bytes = fs::read(path).map(Zeroizing::new);
    let bytes = bytes.map_err(|source| FileError::Read { path: path.to_owned(), source })?;
    parse(&bytes).map_err(|problems| {
        let problem = anyhow::anyhow!("{}: nobody was put on file{problems}", path.display());
        Failure { exit: Exit::File, problem }
    })
}

fn parse(bytes: &[u8]) -> Result<Vec<Person>, Problems> {
    // Excel writes a byte order mark.
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let first = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let delimiter = if first.contains(&b';') && !first.contains(&b',') { b';' } else { b',' };
    let mut reader = ReaderBuilder::new().delimiter(delimiter).trim(Trim::All).from_reader(bytes);
    let places = places(reader.headers().ok()).map_err(|problem| Problems(vec![(1, problem)]))?;
    let (mut people, mut seen, mut problems) = (Vec::new(), HashMap::new(), Problems::default());
    for record in reader.records() {
        match record {
            Ok(record) => {
                let line = record.position().map_or(0, csv::Position::line);
                match person(&record, places, line, &mut seen) {
                    Ok(person) => people.push(person),
                    Err(problem) => problems.0.push((line, problem)),
                }
            }
            Err(problem) => problems.0.push(explain(&problem)),
        }
    }
    if people.is_empty() && problems.0.is_empty() {
        problems.0.push((2, "there is no user".to_owned()));
    }
    if problems.0.is_empty() { Ok(people) } else { Err(problems) }
}

/// Where each column is.
fn places(header: Option<&StringRecord>) -> Result<[usize; 3], String> {
    let header = header.filter(|header| header.len() == COLUMNS.len());
    let place = |name: &str| header?.iter().position(|column| column == name);
    match COLUMNS.map(place) {
        [Some(user_id), Some(name), Some(phone)] => Ok([user_id, name, phone]),
        _ => Err(format!("the first line must name the columns {}, and no other", COLUMNS.join(", "))),
    }
}

fn person(
    record: &StringRecord,
    places: [usize; 3],
    line: u64,
    seen: &mut HashMap<String, u64>,
) -> Result<Person, String> {
    let [user_id, name, phone] = places.map(|place| record.get(place).unwrap_or_default());
    let id: UserId = user_id.parse().map_err(|problem| format!("user_id: {problem}"))?;
    if !NewUser::is_name(name) {
        return Err("name: a name has 1 to 200 characters and no control characters".to_owned());
    }
    let phone: PhoneNumber = phone.parse().map_err(|problem| format!("phone: {problem}"))?;
    if let Some(before) = seen.insert(id.expose().to_owned(), line) {
        return Err(format!("user_id: this user is in line {before} already"));
    }
    let text = |text: &str| Zeroizing::new(text.to_owned());
    Ok(Person { user_id: text(id.expose()), name: text(name), phone: text(phone.expose()) })
}

fn explain(problem: &csv::Error) -> (u64, String) {
    let line = problem.position().map_or(0, csv::Position::line);
    let text = if let ErrorKind::UnequalLengths { len, .. } = problem.kind() {
        format!("there are {len} fields, and {} columns", COLUMNS.len())
    } else if let ErrorKind::Utf8 { .. } = problem.kind() {
        "the text is not UTF-8".to_owned()
    } else {
        "this is not CSV".to_owned()
    };
    (line, text)
}

impl std::fmt::Display for Problems {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (line, problem) in self.0.iter().take(MOST_TOLD) {
            write!(f, "\n  line {line}: {problem}")?;
        }
        let more = self.0.len().saturating_sub(MOST_TOLD);
        if more > 0 { write!(f, "\n  and {more} more") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    fn problems(text: &[u8]) -> Vec<(u64, String)> {
        parse(text).map(|people| people.len()).unwrap_err().0
    }

    #[test]
    fn columns_are_in_any_order_with_commas_or_semicolons_and_values_are_normalised() {
        for text in [
            "user_id,name,phone\nMaria82,\"Hansen, Maria\",+45 12 34 56 78\n",
            "\u{feff}phone;user_id;name\r\n+4512345678; maria82 ;Hansen, Maria\r\n\r\n",
        ] {
            let people = parse(text.as_bytes()).unwrap();
            let [person] = people.as_slice() else { panic!("{}", people.len()) };
            let [id, name, phone] = [&person.user_id, &person.name, &person.phone].map(|text| text.as_str());
            assert_eq!([id, name, phone], ["maria82", "Hansen, Maria", "+4512345678"]);
        }
    }

    #[test]
    fn every_problem_is_told_with_its_line_and_without_what_stands_there() {
        let text = "user_id,name,phone\nab,Maria,+4512345678\nmaria82,,+4512345678\nmaria82,Maria,12345678\n\
                    maria82,\"Maria\nHansen\",+4512345678\nmaria83,Maria,+4512345678,x\nok1,Maria,+4512345678\n\
                    OK1,Peter,+4512345678\n";
        let expected = [
            (2, "user_id: a user ID has 3 to 64"),
            (3, "name: a name has 1 to 200"),
            (4, "phone: a phone number is written with a plus sign"),
            (5, "no control characters"),
            (7, "there are 4 fields, and 3 columns"),
            (9, "user_id: this user is in line 8 already"),
        ];
        let found = problems(text.as_bytes());
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for ((line, problem), (at, part)) in found.iter().zip(expected) {
            assert!(*line == at && problem.contains(part), "{line}: {problem}, not {at}: {part}");
        }
        let told = format!("{}", Problems(found));
        assert!(!told.contains("12345678,") && !told.contains("Hansen"), "{told}");
    }

    #[test]
    fn what_is_no_such_file_is_refused() {
        for text in
            ["", "maria82,Maria,+4512345678", "user_id,name", "user_id,name,phone,phone", "user_id,user_id,phone"]
        {
            let found = problems(text.as_bytes());
            assert!(found.len() == 1 && found[0].1.starts_with("the first line must name"), "{text}: {found:?}");
        }
        assert_eq!(problems(b"user_id,name,phone\n"), [(2, "there is no user".to_owned())]);
        assert_eq!(
            problems(b"user_id,name,phone\nmaria82,Mari\xe6,+4512345678\n"),
            [(2, "the text is not UTF-8".to_owned())]
        );
    }

    #[test]
    fn of_many_problems_twenty_are_told_and_the_rest_is_counted() {
        let mut text = "user_id,name,phone\n".to_owned();
        (0..25).for_each(|_| writeln!(text, "x,y,z").unwrap());
        let told = parse(text.as_bytes()).map(|_| ()).unwrap_err().to_string();
        assert!(told.lines().count() == 22 && told.ends_with("\n  and 5 more"), "{told}");
    }
}
