//! The header of an array: three entries of a Python dictionary, read as text and never evaluated.
//!
//! In: its bytes. Out: kind of number, order and shape. All three keys have to be there once, and no other.

use super::number::Kind;

/// Axes of an array; NumPy has no more.
const AXES_MAX: usize = 64;

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub kind: Kind,
    pub big_endian: bool,
    pub fortran_order: bool,
    pub shape: Vec<u64>,
}

impl Header {
    /// How many numbers there are; `None` where that is beyond counting.
    pub fn count(&self) -> Option<u64> {
        self.shape.iter().try_fold(1_u64, |product, length| product.checked_mul(*length))
    }
}

pub(super) fn parse(bytes: &[u8]) -> Result<Header, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "its header is no text".to_owned())?;
    let mut reader = Reader { rest: text };
    let header = reader.dictionary()?;
    reader.blanks();
    if reader.rest.is_empty() { Ok(header) } else { Err(reader.unexpected("the end")) }
}

struct Reader<'a> {
    rest: &'a str,
}

impl<'a> Reader<'a> {
    fn dictionary(&mut self) -> Result<Header, String> {
        let (mut descr, mut fortran_order, mut shape) = (None, None, None);
        self.expect("{")?;
        while !self.take("}") {
            let key = self.quoted()?;
            self.expect(":")?;
            let known = match key {
                "descr" => descr.replace(self.kind()?).is_none(),
                "fortran_order" => fortran_order.replace(self.truth()?).is_none(),
                "shape" => shape.replace(self.tuple()?).is_none(),
                other => return Err(format!("its header has the unknown key {other:?}")),
            };
            if !known {
                return Err(format!("its header has {key:?} twice"));
            }
            if !self.take(",") {
                self.expect("}")?;
                break;
            }
        }
        let missing = |key: &str| format!("its header lacks {key:?}");
        let (kind, big_endian) = descr.ok_or_else(|| missing("descr"))?;
        Ok(Header {
            kind,
            big_endian,
            fortran_order: fortran_order.ok_or_else(|| missing("fortran_order"))?,
            shape: shape.ok_or_else(|| missing("shape"))?,
        })
    }

    fn kind(&mut self) -> Result<(Kind, bool), String> {
        if self.take("[") {
            return Err("its elements are records, not numbers".to_owned());
        }
        let text = self.quoted()?;
        Kind::parse(text)
            .ok_or_else(|| format!("its elements are {text:?}, which are no real numbers that can be read"))
    }

    fn truth(&mut self) -> Result<bool, String> {
        if self.take("True") {
            return Ok(true);
        }
        if self.take("False") { Ok(false) } else { Err(self.unexpected("True or False")) }
    }

    fn tuple(&mut self) -> Result<Vec<u64>, String> {
        let mut shape = Vec::new();
        self.expect("(")?;
        while !self.take(")") {
            if shape.len() == AXES_MAX {
                return Err(format!("its shape has more than {AXES_MAX} axes"));
            }
            shape.push(self.number()?);
            if self.take(",") {
                continue;
            }
            // Without a comma Python reads a number in brackets, no tuple.
            if shape.len() == 1 {
                return Err(self.unexpected("a comma"));
            }
            self.expect(")")?;
            break;
        }
        Ok(shape)
    }

    fn number(&mut self) -> Result<u64, String> {
        self.blanks();
        let end = self.rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(self.rest.len());
        let (digits, rest) = self.rest.split_at(end);
        let number = digits.parse().map_err(|_| self.unexpected("a length of the shape"))?;
        self.rest = rest;
        Ok(number)
    }

    fn quoted(&mut self) -> Result<&'a str, String> {
        let quote = if self.take("'") {
            '\''
        } else {
            self.expect("\"")?;
            '"'
        };
        let (text, rest) = self.rest.split_once(quote).ok_or_else(|| self.unexpected("a text's end"))?;
        // No text of a header needs one; Python would give it a meaning.
        if text.contains('\\') {
            return Err("its header has an escaped letter".to_owned());
        }
        self.rest = rest;
        Ok(text)
    }

    fn blanks(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\n', '\r']);
    }

    fn take(&mut self, what: &str) -> bool {
        self.blanks();
        let Some(rest) = self.rest.strip_prefix(what) else { return false };
        self.rest = rest;
        true
    }

    fn expect(&mut self, what: &str) -> Result<(), String> {
        if self.take(what) { Ok(()) } else { Err(self.unexpected(what)) }
    }

    fn unexpected(&self, expected: &str) -> String {
        let found: String = self.rest.chars().take(20).collect();
        format!("its header has {found:?} where {expected} should be")
    }
}
