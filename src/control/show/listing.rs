//! `--format` of listings: a template for each line, `table TEMPLATE` with a header, or `json`.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::rows::DOCKER;
use super::table::Table;
use super::template::Template;
use crate::control::Refused;

/// Lines as a format has them. `columns` are Docker's keys and the headers above them; each row has a value
/// for each of them, in this order.
pub(super) fn formatted(
    format: &str,
    columns: &[(&str, &str)],
    rows: impl Iterator<Item = Vec<String>>,
) -> Result<String, Refused> {
    let object = |values: Vec<String>| {
        let pairs =
            columns.iter().zip(values).map(|((key, _), value)| ((*key).to_owned(), Value::String(value)));
        // In Docker's order.
        let sorted: BTreeMap<String, Value> = pairs.collect();
        Value::Object(sorted.into_iter().collect::<Map<_, _>>())
    };
    if format == "json" {
        return Ok(rows.map(|row| format!("{}\n", object(row))).collect());
    }
    let unescaped = format.replace("\\t", "\t").replace("\\n", "\n");
    let Some(table) = unescaped.strip_prefix("table ") else {
        let template = Template::new(&unescaped)?;
        return rows.map(|row| template.render(&object(row)).map(|line| line + "\n")).collect();
    };
    let template = Template::new(table.trim_start())?;
    let cells = |values: Vec<String>| -> Result<Vec<String>, Refused> {
        let line = template.render(&object(values))?;
        Ok(line.split('\t').map(str::to_owned).collect())
    };
    let header = cells(columns.iter().map(|(_, header)| (*header).to_owned()).collect())?;
    let mut table = Table::new(DOCKER, &header.iter().map(String::as_str).collect::<Vec<_>>());
    for row in rows {
        table.row(cells(row)?);
    }
    Ok(table.render())
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [(&str, &str); 2] = [("ID", "NETWORK ID"), ("Name", "NAME")];

    fn lines(format: &str) -> Result<String, Refused> {
        let rows = [["1", "a"], ["2", "b"]];
        formatted(format, &COLUMNS, rows.into_iter().map(|row| row.map(str::to_owned).to_vec()))
    }

    #[test]
    fn lines_tables_and_json() {
        let table = [
            ("{{.Name}}={{.ID}}", "a=1\nb=2\n"),
            (r"{{.ID}}\t{{.Name}}", "1\ta\n2\tb\n"),
            (
                r"table {{.Name}}\t{{.ID}}",
                "NAME                NETWORK ID\na                   1\nb                   2\n",
            ),
            ("json", "{\"ID\":\"1\",\"Name\":\"a\"}\n{\"ID\":\"2\",\"Name\":\"b\"}\n"),
            ("{{json .}}", "{\"ID\":\"1\",\"Name\":\"a\"}\n{\"ID\":\"2\",\"Name\":\"b\"}\n"),
        ];
        for (format, expected) in table {
            assert_eq!(lines(format).as_deref(), Ok(expected), "{format}");
        }
        assert_eq!(
            lines("{{.Nmae}}").unwrap_err().message,
            "template '.Nmae' finds no 'Nmae': did you mean 'Name'?"
        );
    }
}
