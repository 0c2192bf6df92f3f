//! Padding of every plaintext to whole kilobytes, so that a ciphertext's length says little about what it carries.
//! Not a defence of its own: padding is read only after it was authenticated.

use zeroize::Zeroizing;

use super::ChannelError;

/// Length of the message's length in front of it.
const LENGTH_BYTES: usize = 4;

/// Padded plaintexts are multiples of this many bytes.
const STEP_BYTES: usize = 1024;

/// `u32(len) || message || zeros`, up to the next multiple of 1024 bytes.
pub(super) fn pad(message: &[u8]) -> Result<Zeroizing<Vec<u8>>, ChannelError> {
    let length = u32::try_from(message.len()).map_err(|_| ChannelError::DoesNotSeal)?;
    let mut padded = Zeroizing::new(Vec::with_capacity(padded_bytes(message.len())));
    padded.extend(length.to_be_bytes());
    padded.extend(message);
    padded.resize(padded_bytes(message.len()), 0);
    Ok(padded)
}

/// The message inside a padded plaintext, if the padding is the only one that [`pad`] makes.
pub(super) fn unpad(padded: &[u8]) -> Result<&[u8], ChannelError> {
    let (length, rest) = padded.split_first_chunk::<LENGTH_BYTES>().ok_or(ChannelError::DoesNotOpen)?;
    let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| ChannelError::DoesNotOpen)?;
    let (message, filler) = rest.split_at_checked(length).ok_or(ChannelError::DoesNotOpen)?;
    let minimal = padded.len() == padded_bytes(length);
    let zero = filler.iter().all(|byte| *byte == 0);
    (minimal && zero).then_some(message).ok_or(ChannelError::DoesNotOpen)
}

fn padded_bytes(message_bytes: usize) -> usize {
    message_bytes.saturating_add(LENGTH_BYTES).next_multiple_of(STEP_BYTES)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_message_takes_the_fewest_whole_kilobytes_that_hold_it_and_its_length() {
        for (message, padded) in [(0, 1024), (1, 1024), (1020, 1024), (1021, 2048), (4092, 4096), (4093, 5120)] {
            assert_eq!(pad(&vec![7; message]).unwrap().len(), padded, "{message}");
        }
    }

    #[test]
    fn any_other_padding_is_refused() {
        let good = pad(b"message").unwrap();
        let with = |change: fn(&mut Vec<u8>)| {
            let mut bytes = good.to_vec();
            change(&mut bytes);
            unpad(&bytes).map(<[u8]>::to_vec)
        };
        let changes: [fn(&mut Vec<u8>); 8] = [
            |bytes| bytes.clear(),
            |bytes| bytes.truncate(3),
            |bytes| bytes.truncate(1023),
            |bytes| bytes.push(0),
            |bytes| bytes.resize(2048, 0),
            |bytes| bytes[3] = 6,
            |bytes| bytes[0] = 0xff,
            |bytes| bytes[1023] = 1,
        ];
        for (index, change) in changes.into_iter().enumerate() {
            assert_eq!(with(change), Err(ChannelError::DoesNotOpen), "{index}");
        }
        assert_eq!(unpad(&[0, 0, 4, 0].repeat(256)), Err(ChannelError::DoesNotOpen));
    }

    proptest! {
        #[test]
        fn a_padded_message_comes_back(message in proptest::collection::vec(any::<u8>(), 0..5000)) {
            let padded = pad(&message).unwrap();
            prop_assert_eq!(padded.len() % STEP_BYTES, 0);
            prop_assert_eq!(unpad(&padded), Ok(message.as_slice()));
        }

        #[test]
        fn what_unpads_is_what_padding_makes(mut bytes in proptest::collection::vec(any::<u8>(), 0..2049), length in 0..3000_u32) {
            if let Some(prefix) = bytes.first_chunk_mut::<LENGTH_BYTES>() {
                *prefix = length.to_be_bytes();
            }
            if let Ok(message) = unpad(&bytes) {
                prop_assert_eq!(&*pad(message).unwrap(), &bytes);
            }
        }
    }
}
