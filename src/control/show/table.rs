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
        let mut text = String::new();
        for line in &self.lines {
            let padded =
                line.iter().enumerate().map(|(column, cell)| format!("{cell:<0$}", self.width(column)));
            let padded: String = padded.collect();
            text.push_str(padded.trim_end());
            text.push('\n');
        }
        text
    }

    fn width(&self, column: usize) -> usize {
        let cells = self.lines.iter().filter_map(|line| line.get(column));
        let longest = cells.map(|cell| cell.chars().count()).max().unwrap_or(0);
        self.least.max(longest + 3)
    }
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
}
