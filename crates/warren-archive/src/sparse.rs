//! Files with holes: which of their bytes are in an archive.
//!
//! GNU tar has four ways to say it: in the header and blocks behind it, in PAX records (one list, or
//! a record for each number), and in front of the content.

use tar::{EntryType, GnuSparseHeader, Header};

use crate::error::UnpackError;
use crate::parse::number;

pub(crate) const SPARSE: &str = "it is sparse, expected an archive made without that";

/// The most pieces of one file.
const MOST_PIECES: usize = 1 << 16;
const DAMAGED: UnpackError = UnpackError::Broken("the map of a sparse file is damaged");

/// So many bytes that belong at one place of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// Where the first byte belongs.
    pub offset: u64,
    /// How many there are.
    pub length: u64,
}

/// What PAX records say about the sparse file behind them.
#[derive(Debug, Default)]
pub(crate) struct SaidOfSparse {
    pub(crate) name: Option<Vec<u8>>,
    is_sparse: bool,
    /// The map is in front of the content.
    in_front: bool,
    size: Option<u64>,
    numbers: Vec<u64>,
}

impl SaidOfSparse {
    /// Takes a record by its key without `GNU.sparse.`.
    pub(crate) fn note(&mut self, key: &[u8], value: &[u8]) -> Result<(), UnpackError> {
        let parse = |text: &[u8]| number(text).ok_or(DAMAGED);
        self.is_sparse = true;
        match key {
            b"name" => self.name = Some(value.to_vec()),
            b"size" | b"realsize" => self.size = Some(parse(value)?),
            b"major" => self.in_front = parse(value)? >= 1,
            b"offset" | b"numbytes" => self.push(parse(value)?)?,
            b"map" => {
                self.numbers.clear();
                for text in value.split(|it| *it == b',') {
                    self.push(parse(text)?)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn push(&mut self, number: u64) -> Result<(), UnpackError> {
        if self.numbers.len() == 2 * MOST_PIECES {
            return Err(too_many());
        }
        self.numbers.push(number);
        Ok(())
    }

    /// What reads the map of the file of `header`, and the file's size; `None` if it has no holes.
    pub(crate) fn reader(
        self,
        header: &Header,
        name: &[u8],
    ) -> Result<Option<(Reader, u64)>, UnpackError> {
        if header.entry_type() == EntryType::GNUSparse {
            let Some(gnu) = header.as_gnu() else {
                return Err(UnpackError::refused(name, SPARSE));
            };
            let mut reader = Reader { form: Form::Blocks, numbers: Vec::new(), digits: None };
            reader.fields(&gnu.sparse)?;
            if !gnu.is_extended() {
                reader.form = Form::Done;
            }
            let size = gnu.real_size().map_err(|_text| DAMAGED)?;
            return Ok(Some((reader, size)));
        }
        if !self.is_sparse {
            return Ok(None);
        }
        let size = self.size.ok_or(DAMAGED)?;
        let form = if self.in_front { Form::Lines } else { Form::Done };
        Ok(Some((Reader { form, numbers: self.numbers, digits: None }, size)))
    }
}

/// How the rest of a map is written.
#[derive(Debug, PartialEq, Eq)]
enum Form {
    /// Blocks of 21 pairs behind the header; they do not count as content.
    Blocks,
    /// Lines of one number each: how many pairs there are, then the pairs. They count as content.
    Lines,
    Done,
}

/// Reads a map.
#[derive(Debug)]
pub(crate) struct Reader {
    form: Form,
    numbers: Vec<u64>,
    /// The number that is being read of a line.
    digits: Option<u64>,
}

impl Reader {
    pub(crate) fn is_done(&self) -> bool {
        self.form == Form::Done
    }

    /// Takes a block; `left` are the bytes of content, which lines are taken off.
    pub(crate) fn block(&mut self, block: &[u8], left: &mut u64) -> Result<(), UnpackError> {
        match self.form {
            Form::Done => Ok(()),
            Form::Blocks => {
                let mut extension = tar::GnuExtSparseHeader::new();
                for (to, from) in extension.as_mut_bytes().iter_mut().zip(block) {
                    *to = *from;
                }
                self.fields(&extension.sparse)?;
                if !extension.is_extended() {
                    self.form = Form::Done;
                }
                Ok(())
            }
            Form::Lines => {
                *left = left.checked_sub(block.len() as u64).ok_or(DAMAGED)?;
                block.iter().try_for_each(|byte| self.byte(*byte))
            }
        }
    }

    fn fields(&mut self, fields: &[GnuSparseHeader]) -> Result<(), UnpackError> {
        for field in fields.iter().filter(|it| !it.is_empty()) {
            let offset = field.offset().map_err(|_text| DAMAGED)?;
            let length = field.length().map_err(|_text| DAMAGED)?;
            if self.numbers.len() == 2 * MOST_PIECES {
                return Err(too_many());
            }
            self.numbers.extend([offset, length]);
        }
        Ok(())
    }

    fn byte(&mut self, byte: u8) -> Result<(), UnpackError> {
        match byte {
            _ if self.form == Form::Done => {} // filled up to the block's end
            b'0'..=b'9' => {
                let digits = self.digits.unwrap_or_default().checked_mul(10);
                let digits = digits.and_then(|it| it.checked_add(u64::from(byte - b'0')));
                self.digits = Some(digits.ok_or(DAMAGED)?);
            }
            b'\n' => {
                self.numbers.push(self.digits.take().ok_or(DAMAGED)?);
                let pairs = self.numbers.first().copied().unwrap_or_default();
                if pairs > MOST_PIECES as u64 {
                    return Err(too_many());
                }
                if self.numbers.len() as u64 == 1 + 2 * pairs {
                    self.numbers.remove(0);
                    self.form = Form::Done;
                }
            }
            _ => return Err(DAMAGED),
        }
        Ok(())
    }

    /// The pieces of a file of `size` bytes, of which `stored` follow.
    pub(crate) fn finish(
        self,
        size: u64,
        stored: u64,
        name: &[u8],
    ) -> Result<Vec<Piece>, UnpackError> {
        let wrong = || UnpackError::refused(name, "the map of its holes is wrong");
        let mut pieces = Vec::with_capacity(self.numbers.len() / 2);
        let (mut end, mut sum) = (0_u64, 0_u64);
        let mut numbers = self.numbers.into_iter();
        while let Some(offset) = numbers.next() {
            let length = numbers.next().ok_or_else(wrong)?;
            if offset < end {
                return Err(wrong());
            }
            end = offset.checked_add(length).filter(|it| *it <= size).ok_or_else(wrong)?;
            sum += length;
            if length > 0 {
                pieces.push(Piece { offset, length });
            }
        }
        if sum == stored && i64::try_from(size).is_ok() { Ok(pieces) } else { Err(wrong()) }
    }
}

fn too_many() -> UnpackError {
    UnpackError::TooMuch(format!("a sparse file of more than {MOST_PIECES} pieces"))
}
