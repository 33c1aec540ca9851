//! Files that NumPy wrote, and files that nobody should read.

use std::path::Path;

use proptest::prelude::*;

use super::*;

fn vectors() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/drift-vectors")
}

/// An array of version 1 with this header and these numbers behind it.
fn file(header: &str, numbers: &[u8]) -> Vec<u8> {
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(numbers);
    bytes
}

fn of(bytes: &[u8]) -> Result<Array, NpyError> {
    read(bytes, bytes.len() as u64)
}

#[test]
fn each_bad_file_gets_its_verdict() {
    let unfinished = ["empty_file", "magic_only", "truncated_header", "truncated_data"];
    let mut seen = 0;
    for entry in std::fs::read_dir(vectors().join("bad")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let verdict = read_file(&path);
        if unfinished.contains(&name.trim_end_matches(".npy")) {
            assert!(matches!(verdict, Err(NpyError::Unfinished(_))), "{name}: {verdict:?}");
        } else {
            assert!(matches!(verdict, Err(NpyError::Refused(_))), "{name}: {verdict:?}");
        }
        seen += 1;
    }
    assert_eq!(seen, 22);
}

#[test]
fn every_kind_of_number_is_read_in_both_orders() {
    let rows: [(&str, &[u8], &[f64]); 15] = [
        ("|b1", &[0, 1], &[0.0, 1.0]),
        ("|i1", &[0xff, 2], &[-1.0, 2.0]),
        ("|u1", &[0xff], &[255.0]),
        ("<i2", &[0xfe, 0xff], &[-2.0]),
        (">i2", &[0xff, 0xfe], &[-2.0]),
        (">u2", &[0xff, 0xfe], &[65_534.0]),
        ("<i4", &[0xfd, 0xff, 0xff, 0xff], &[-3.0]),
        (">u4", &[0x80, 0, 0, 0], &[2_147_483_648.0]),
        ("<i8", &(-4_i64).to_le_bytes(), &[-4.0]),
        (">u8", &u64::MAX.to_be_bytes(), &[18_446_744_073_709_551_616.0]),
        ("<f2", &[0x00, 0x3c, 0x01, 0x00, 0x00, 0xfc], &[1.0, 5.960_464_477_539_063e-8, f64::NEG_INFINITY]),
        (">f2", &[0xc0, 0x00, 0x35, 0x55], &[-2.0, 0.333_251_953_125]),
        ("<f4", &0.25_f32.to_le_bytes(), &[0.25]),
        (">f4", &(-0.5_f32).to_be_bytes(), &[-0.5]),
        (">f8", &0.1_f64.to_be_bytes(), &[0.1]),
    ];
    for (descr, numbers, expected) in rows {
        let header =
            format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({},), }}\n", expected.len());
        assert_eq!(of(&file(&header, numbers)).unwrap().values, expected, "{descr}");
    }
}

#[test]
fn headers_that_python_would_read_otherwise_are_refused() {
    let rows = [
        ("{'descr': '<f8', 'fortran_order': False, 'shape': (1)}", "comma"),
        ("{'descr': '<f8', 'descr': '<f8', 'fortran_order': False, 'shape': (1,)}", "twice"),
        ("{'descr': '<f8', 'fortran_order': 0, 'shape': (1,)}", "True or False"),
        ("{'descr': '<f8', 'fortran_order': False, 'shape': (1,)} + {}", "the end"),
        ("{'descr': '<f16', 'fortran_order': False, 'shape': (1,)}", "no real numbers"),
        ("{'descr': '|f8', 'fortran_order': False, 'shape': (1,)}", "no real numbers"),
        ("{'descr': '\\x3cf8', 'fortran_order': False, 'shape': (1,)}", "escaped"),
        ("{'descr': '|b1', 'fortran_order': False, 'shape': (8,)}", "neither 0 nor 1"),
        ("", "should be"),
    ];
    for (header, expected) in rows {
        let error = of(&file(header, &[2; 8])).unwrap_err();
        assert!(matches!(&error, NpyError::Refused(why) if why.contains(expected)), "{header}: {error}");
    }
}

#[test]
fn last_index_runs_fastest_whatever_the_order_in_the_file() {
    let header = "{'descr': '|u1', 'fortran_order': True, 'shape': (2, 3, 2), }";
    // a[i, j, k] = 6 i + 2 j + k, as NumPy writes it with order='F'.
    let stored = [0, 6, 2, 8, 4, 10, 1, 7, 3, 9, 5, 11];
    let array = of(&file(header, &stored)).unwrap();
    assert_eq!(array.values, (0..12).map(f64::from).collect::<Vec<_>>());
}

proptest! {
    #[test]
    fn any_bytes_are_an_array_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = of(&bytes);
        let _ = of(&file(&String::from_utf8_lossy(&bytes), &bytes));
    }

    #[test]
    fn every_beginning_of_a_file_is_unfinished(cut in 0_usize..200) {
        let whole = file("{'descr': '<f8', 'fortran_order': False, 'shape': (20,), }\n", &[0; 160]);
        let cut = cut.min(whole.len() - 1);
        prop_assert!(matches!(of(&whole[..cut]), Err(NpyError::Unfinished(_))), "{}", cut);
    }
}
