//! Columns that line up.

/// A table with a header; columns are left-aligned and three spaces apart.
#[derive(Debug)]
pub(super) struct Table {
    least: usize,
    lines: Vec<Vec<String>>,
}

impl Table {
    /// A table whose columns are at least `least` characters wide, the gap included. Docker's are
    /// 20, by Go's `tabwriter.NewWriter(out, 20, 1, 3, ' ', 0)`.
    pub(super) fn new(least: usize, header: &[&str]) -> Self {
        Self { least, lines: vec![header.iter().map(|cell| (*cell).to_owned()).collect()] }
    }

    /// Adds a line.
    pub(super) fn row(&mut self, cells: Vec<String>) {
        self.lines.push(cells);
    }

    /// The table, each line with its end and no spaces before it.
    pub(super) fn render(&self) -> String {
        self.part(&mut Parts::default())
    }

    /// The same as the next part of one table: its header only if it is the first, its columns at
    /// least as wide as those of the parts before.
    pub(super) fn part(&self, parts: &mut Parts) -> String {
        let columns = self.lines.iter().map(Vec::len).max().unwrap_or(0);
        parts.widths.resize(columns.max(parts.widths.len()), self.least);
        for line in &self.lines {
            for (width, cell) in parts.widths.iter_mut().zip(line) {
                *width = (*width).max(cell.chars().count() + 3);
            }
        }
        let mut text = String::new();
        for line in self.lines.iter().skip(usize::from(parts.begun)) {
            let start = text.len();
            for (cell, width) in line.iter().zip(&parts.widths) {
                text.push_str(cell);
                text.extend(std::iter::repeat_n(' ', width.saturating_sub(cell.chars().count())));
            }
            text.truncate(start + text[start..].trim_end().len());
            text.push('\n');
        }
        parts.begun = true;
        text
    }
}

/// What a table that is printed in parts remembers from part to part.
#[derive(Debug, Default)]
pub struct Parts {
    widths: Vec<usize>,
    begun: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_by_characters() {
        let mut table = Table::new(0, &["A", "LONG HEADER", "LAST"]);
        table.row(vec!["déjà".to_owned(), "x".to_owned(), "end".to_owned()]);
        table.row(vec!["a".to_owned(), String::new(), String::new()]);
        assert_eq!(table.render(), "A      LONG HEADER   LAST\ndéjà   x             end\na\n");
        let mut wide = Table::new(10, &["A", "B"]);
        wide.row(vec!["eight888".to_owned(), "b".to_owned()]);
        assert_eq!(wide.render(), "A          B\neight888   b\n");
    }

    #[test]
    fn a_table_in_parts_has_one_header_and_columns_that_only_widen() {
        let mut parts = Parts::default();
        let mut part = |cell: &str| {
            let mut table = Table::new(0, &["A", "B"]);
            table.row(vec![cell.to_owned(), "b".to_owned()]);
            table.part(&mut parts)
        };
        assert_eq!(part("1234"), "A      B\n1234   b\n");
        assert_eq!(part("12"), "12     b\n");
        assert_eq!(part("123456"), "123456   b\n");
        assert_eq!(part("1"), "1        b\n");
    }
}
