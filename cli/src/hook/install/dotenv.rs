//! The `.env` of an Actions runner: lines `NAME=VALUE`, nothing quoted, no comments; the last of a name counts.
//!
//! Pure. Lines that are not ours stay as they are.

/// A variable's value.
pub(crate) fn value<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let mut values = text.lines().filter_map(|line| of(line, name));
    values.next_back().filter(|value| !value.is_empty())
}

/// The text with one line for this variable, where its first one stood, or at the end; with none when it shall have no
/// value.
pub(super) fn with(text: &str, name: &str, value: Option<&str>) -> String {
    let mut new = String::with_capacity(text.len() + 128);
    let mut written = value.is_none();
    for line in text.split_inclusive('\n') {
        if of(line.trim_end_matches(['\r', '\n']), name).is_none() {
            new.push_str(line);
        } else if !written {
            push(&mut new, name, value.unwrap_or_default());
            written = true;
        }
    }
    if !written {
        if !new.is_empty() && !new.ends_with('\n') {
            new.push('\n');
        }
        push(&mut new, name, value.unwrap_or_default());
    }
    new
}

fn of<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    line.strip_prefix(name)?.strip_prefix('=')
}

fn push(text: &mut String, name: &str, value: &str) {
    text.extend([name, "=", value, "\n"]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_lines_stay_and_twice_is_once() {
        let text = "LANG=C.UTF-8\r\n# odd\nHOOK=/old.sh\nHOOKS=x\nHOOK=/older.sh\nlast";
        assert_eq!(value(text, "HOOK"), Some("/older.sh"));
        let new = with(text, "HOOK", Some("/new.sh"));
        assert_eq!(new, "LANG=C.UTF-8\r\n# odd\nHOOK=/new.sh\nHOOKS=x\nlast");
        assert_eq!(with(&new, "HOOK", Some("/new.sh")), new);
        assert_eq!(with(&new, "HOOK", None), "LANG=C.UTF-8\r\n# odd\nHOOKS=x\nlast");
        assert_eq!(with(&new, "MORE", Some("y")), format!("{new}\nMORE=y\n"));
        assert_eq!(with("", "HOOK", Some("/new.sh")), "HOOK=/new.sh\n");
        assert_eq!(value("HOOK=\n", "HOOK"), None);
    }
}
