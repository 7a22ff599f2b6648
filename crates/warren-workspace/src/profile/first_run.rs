//! Settings that a program asks for at its first start, such as whether it trusts a directory.
//!
//! They are added to what the program's file has; who writes the file does that inside of the
//! sandbox, or follows no link to it.

use serde_json::Value;

/// Stands for the path of the workspace, as the agent sees it.
const WORKSPACE: &str = "{workspace}";

/// Settings in one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirstRun {
    /// The file, seen from the agent's HOME.
    pub path: String,
    /// What is added.
    pub form: Form,
}

/// The settings as text of their format. `{workspace}` in a name or a value is the path of the
/// workspace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Form {
    /// An object of JSON.
    Json(String),
    /// A document of TOML.
    Toml(String),
}

impl FirstRun {
    /// What the file should hold. Tables and objects are merged, other values replaced; a file that
    /// cannot be read as its format is replaced as a whole.
    ///
    /// # Errors
    ///
    /// Where the settings themselves are not of their format.
    pub fn apply(&self, existing: Option<&[u8]>, workspace: &str) -> Result<Vec<u8>, String> {
        let wrong = |error: &dyn std::fmt::Display| format!("first-run `{}`: {error}", self.path);
        match &self.form {
            Form::Json(text) => {
                let mut added: Value = serde_json::from_str(text).map_err(|it| wrong(&it))?;
                if !added.is_object() {
                    return Err(wrong(&"expected an object"));
                }
                place_json(&mut added, workspace);
                let old = existing.and_then(|it| serde_json::from_slice::<Value>(it).ok());
                let mut all = old
                    .filter(Value::is_object)
                    .unwrap_or_else(|| Value::Object(Default::default()));
                merge_json(&mut all, added);
                Ok(format!("{all:#}\n").into_bytes())
            }
            Form::Toml(text) => {
                let mut added: toml::Table =
                    text.parse().map_err(|it: toml::de::Error| wrong(&it))?;
                place_toml(&mut added, workspace);
                let old = existing.and_then(|it| std::str::from_utf8(it).ok()?.parse().ok());
                let mut all: toml::Table = old.unwrap_or_default();
                merge_toml(&mut all, added);
                Ok(all.to_string().into_bytes())
            }
        }
    }
}

/// Puts `added` over `all`. The parser allows no depth that would be too much here.
fn merge_json(all: &mut Value, added: Value) {
    match (all, added) {
        (Value::Object(all), Value::Object(added)) => {
            for (key, value) in added {
                merge_json(all.entry(key).or_insert(Value::Null), value);
            }
        }
        (all, added) => *all = added,
    }
}

fn place_json(value: &mut Value, workspace: &str) {
    match value {
        Value::String(text) => *text = text.replace(WORKSPACE, workspace),
        Value::Array(values) => values.iter_mut().for_each(|it| place_json(it, workspace)),
        Value::Object(fields) => {
            let old = std::mem::take(fields);
            for (key, mut value) in old {
                place_json(&mut value, workspace);
                fields.insert(key.replace(WORKSPACE, workspace), value);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn merge_toml(all: &mut toml::Table, added: toml::Table) {
    for (key, value) in added {
        match (all.get_mut(&key), value) {
            (Some(toml::Value::Table(all)), toml::Value::Table(added)) => merge_toml(all, added),
            (_, value) => {
                all.insert(key, value);
            }
        }
    }
}

fn place_toml(table: &mut toml::Table, workspace: &str) {
    let old = std::mem::take(table);
    for (key, mut value) in old {
        match &mut value {
            toml::Value::String(text) => *text = text.replace(WORKSPACE, workspace),
            toml::Value::Table(inner) => place_toml(inner, workspace),
            _ => {}
        }
        table.insert(key.replace(WORKSPACE, workspace), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(form: Form, existing: Option<&str>) -> String {
        let first_run = FirstRun { path: "x".into(), form };
        let bytes = first_run.apply(existing.map(str::as_bytes), "/workspace").unwrap();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn json_is_merged() {
        let added = r#"{"theme":"dark","projects":{"{workspace}":{"trusted":true,"dirs":["{workspace}/x"]}}}"#;
        let json = |existing| applied(Form::Json(added.into()), existing);
        let value = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        let alone = r#"{"theme":"dark","projects":{"/workspace":{"trusted":true,"dirs":["/workspace/x"]}}}"#;
        assert_eq!(value(&json(None)), value(alone));
        let existing =
            r#"{"theme":"light","user":1,"projects":{"/other":{},"/workspace":{"a":1}}}"#;
        let both = r#"{"theme":"dark","user":1,"projects":{"/other":{},
            "/workspace":{"a":1,"trusted":true,"dirs":["/workspace/x"]}}}"#;
        assert_eq!(value(&json(Some(existing))), value(both));
        for broken in ["", "{", "[1]", "null", "\"x\""] {
            assert_eq!(value(&json(Some(broken))), value(alone), "{broken}");
        }
    }

    #[test]
    fn toml_is_merged() {
        let added = "[projects.\"{workspace}\"]\ntrust_level = \"trusted\"\n";
        let toml = |existing| applied(Form::Toml(added.into()), existing);
        let table = |text: &str| text.parse::<toml::Table>().unwrap();
        let alone = "[projects.\"/workspace\"]\ntrust_level = \"trusted\"\n";
        assert_eq!(table(&toml(None)), table(alone));
        let existing = "model = \"x\"\n[projects.\"/other\"]\ntrust_level = \"no\"\n";
        assert_eq!(table(&toml(Some(existing))), table(&format!("{existing}{alone}")));
        assert_eq!(table(&toml(Some("= broken"))), table(alone));
    }

    #[test]
    fn settings_of_another_format_are_refused() {
        for form in [Form::Json("{".into()), Form::Json("[]".into()), Form::Toml("=".into())] {
            let first_run = FirstRun { path: ".x".into(), form };
            assert!(first_run.apply(None, "/w").unwrap_err().starts_with("first-run `.x`: "));
        }
    }

    #[test]
    fn a_file_that_is_too_deep_is_replaced() {
        let deep = "[".repeat(100_000);
        let deep = format!("{{\"a\":{deep}");
        assert_eq!(applied(Form::Json("{}".into()), Some(&deep)).trim(), "{}");
    }
}
