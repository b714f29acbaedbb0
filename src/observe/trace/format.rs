//! An event's `format` file: where its fields stand in this kernel's records, and what their numbers
//! are called. Which events and fields are wanted is left to [`events`](super::events).

/// Where the fields of one event stand.
#[derive(Clone, Debug)]
pub(super) struct Format {
    /// The number that its records carry.
    pub(super) id: u16,
    fields: Vec<(Box<str>, Field)>,
    print: Box<str>,
}

/// Where one field stands in a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Field {
    /// Bytes before it.
    pub(super) offset: usize,
    /// Its own bytes.
    pub(super) size: usize,
}

/// What a field's numbers are called.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Symbols(Vec<(u64, Box<str>)>);

impl Format {
    /// Reads a format file; none where it is none.
    pub(super) fn parse(text: &str) -> Option<Format> {
        let mut lines = text.lines();
        let id = lines.find_map(|line| line.strip_prefix("ID:"))?;
        let print = lines
            .clone()
            .find_map(|line| line.strip_prefix("print fmt:"));
        Some(Format {
            id: id.trim().parse().ok()?,
            fields: lines.filter_map(field).collect(),
            print: print.unwrap_or_default().into(),
        })
    }

    /// Where a field stands; none where this kernel has none of that name.
    pub(super) fn field(&self, name: &str) -> Option<Field> {
        let mut found = self.fields.iter().filter(|(known, _)| **known == *name);
        found.next().map(|&(_, field)| field)
    }

    /// What a field's numbers are called when it is printed (`__print_symbolic`); those that are
    /// printed by the names of constants are left out, as a format file does not resolve them.
    pub(super) fn symbols(&self, field: &str) -> Symbols {
        let call = format!("__print_symbolic(REC->{field},");
        let rest = self.print.split_once(&call).map(|(_, rest)| rest);
        let mut rest = rest.unwrap_or_default();
        let mut symbols = Vec::new();
        while let Some((number, name, behind)) = symbol(rest) {
            symbols.extend(number.map(|number| (number, name.into())));
            rest = behind;
        }
        Symbols(symbols)
    }
}

/// `{ 9, "NAME" }`, the comma before it and what follows.
fn symbol(text: &str) -> Option<(Option<u64>, &str, &str)> {
    let text = text.trim_start().trim_start_matches(',').trim_start();
    let (number, rest) = text.strip_prefix('{')?.split_once(',')?;
    let (name, rest) = rest.trim_start().strip_prefix('"')?.split_once('"')?;
    let rest = rest.trim_start().strip_prefix('}')?;
    let number = number.trim();
    let number = number.strip_prefix("0x").map_or_else(
        || number.parse().ok(),
        |digits| u64::from_str_radix(digits, 16).ok(),
    );
    Some((number, name, rest))
}

/// `field:__u8 saddr[4];  offset:22;  size:4;  signed:0;`
pub(super) fn field(line: &str) -> Option<(Box<str>, Field)> {
    let mut parts = line.split(';').map(str::trim);
    let declaration = parts.next()?.strip_prefix("field:")?;
    let name = declaration.split_whitespace().next_back()?;
    let name = name.split('[').next()?;
    let offset = parts.next()?.strip_prefix("offset:")?.parse().ok()?;
    let size = parts.next()?.strip_prefix("size:")?.parse().ok()?;
    Some((name.into(), Field { offset, size }))
}

impl Symbols {
    /// What this number is called.
    pub(super) fn name(&self, number: u64) -> Option<&str> {
        let mut found = self.0.iter().filter(|(known, _)| *known == number);
        found.next().map(|(_, name)| &**name)
    }
}

impl Field {
    /// Its bytes; none where the record is shorter.
    pub(super) fn bytes(self, record: &[u8]) -> Option<&[u8]> {
        record.get(self.offset..self.offset.checked_add(self.size)?)
    }

    /// Its bytes as an array of the length they have.
    pub(super) fn array<const N: usize>(self, record: &[u8]) -> Option<[u8; N]> {
        self.bytes(record)?.try_into().ok()
    }

    /// Its value, of any of C's widths.
    pub(super) fn unsigned(self, record: &[u8]) -> Option<u64> {
        let bytes = self.bytes(record)?;
        Some(match *bytes {
            [byte] => u64::from(byte),
            [a, b] => u64::from(u16::from_ne_bytes([a, b])),
            [a, b, c, d] => u64::from(u32::from_ne_bytes([a, b, c, d])),
            _ => u64::from_ne_bytes(bytes.try_into().ok()?),
        })
    }

    /// Its value as a C int. A system call's argument is one in a register's width: the upper half
    /// says nothing.
    pub(super) fn int(self, record: &[u8]) -> Option<i32> {
        let low = self.unsigned(record)? & u64::from(u32::MAX);
        u32::try_from(low).ok().map(u32::cast_signed)
    }

    /// Its value as a C long.
    pub(super) fn long(self, record: &[u8]) -> Option<i64> {
        match self.size {
            8 => self.unsigned(record).map(u64::cast_signed),
            _ => self.int(record).map(i64::from),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEND_RESET: &str = "name: tcp_send_reset\nID: 2280\nformat:\n\
        \tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\
        \tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;\n\n\
        \tfield:const void * skaddr;\toffset:16;\tsize:8;\tsigned:0;\n\
        \tfield:enum sk_rst_reason reason;\toffset:28;\tsize:4;\tsigned:0;\n\
        \tfield:__u8 saddr[28];\toffset:32;\tsize:28;\tsigned:0;\n\n\
        print fmt: \"state=%s reason=%s\", REC->state ? __print_symbolic(REC->state, \
        { TCP_ESTABLISHED, \"TCP_ESTABLISHED\" }, { 0x7, \"TCP_CLOSE\" }) : \"UNKNOWN\", \
        __print_symbolic(REC->reason, { 0, \"NOT_SPECIFIED\" }, { 1, \"NO_SOCKET\" }, \
        { 14, \"TCP_STATE\" })\n";

    #[test]
    fn fields_stand_where_the_file_says() {
        let format = Format::parse(SEND_RESET).unwrap();
        assert_eq!(format.id, 2280);
        let at = |offset, size| Some(Field { offset, size });
        assert_eq!(format.field("skaddr"), at(16, 8));
        assert_eq!(format.field("reason"), at(28, 4));
        assert_eq!(format.field("saddr"), at(32, 28));
        assert_eq!(format.field("sport"), None);
    }

    #[test]
    fn numbers_are_called_what_this_kernel_calls_them() {
        let format = Format::parse(SEND_RESET).unwrap();
        let reasons = format.symbols("reason");
        assert_eq!(reasons.name(14), Some("TCP_STATE"));
        assert_eq!(reasons.name(0), Some("NOT_SPECIFIED"));
        assert_eq!(reasons.name(2), None);
        let states = format.symbols("state");
        assert_eq!(states.name(7), Some("TCP_CLOSE"));
        assert_eq!(states.name(1), None);
        assert_eq!(format.symbols("skaddr"), Symbols::default());
    }

    #[test]
    fn values_have_the_width_of_their_field() {
        let record: Vec<u8> = (1..=16).collect();
        let field = |offset, size| Field { offset, size };
        assert_eq!(field(2, 1).unsigned(&record), Some(3));
        let four = u32::from_ne_bytes([1, 2, 3, 4]);
        assert_eq!(field(0, 4).unsigned(&record), Some(u64::from(four)));
        assert_eq!(field(0, 3).unsigned(&record), None);
        assert_eq!(field(9, 8).unsigned(&record), None);
        assert_eq!(field(usize::MAX, 8).unsigned(&record), None);
        let minus = (-11_i64).to_ne_bytes();
        assert_eq!(field(0, 8).long(&minus), Some(-11));
        assert_eq!(field(0, 8).int(&minus), Some(-11));
        assert_eq!(field(0, 4).long(&(-5_i32).to_ne_bytes()), Some(-5));
    }

    #[test]
    fn what_is_no_format_file_is_none() {
        assert!(Format::parse("").is_none());
        assert!(Format::parse("ID: many\n").is_none());
        assert!(field("field:int x; offset:a; size:4;").is_none());
    }
}
