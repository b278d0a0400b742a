/// Changes JSON, YAML and lists by their tokens.
enum TextMutator {
  private static let numbers = [
    "0", "-0", "-1", "1", "2", "4", "8", "16", "17", "32", "255", "256", "65536", "2147483647", "2147483648",
    "4294967296", "9223372036854775807", "9223372036854775808", "-9223372036854775808", "1e308", "1e400", "-1e308",
    "1e-45", "1e-400", "0.1", "-128", "-32768", "NaN", "Infinity", "1e5", "00", "1.", ".5", "0x10",
  ]
  private static let words = [
    "true", "false", "null", "\"\"", "\"int\"", "\"float\"", "\"int4\"", "\"uint16\"", "\"1.0.0\"", "\"2.0.0\"",
    "\"0.6.1\"", "{}", "[]", "[[]]", "[0]", "{\"a\":1}", "\"\\u0000\"", "\"\\ud800\"", "~", "&a", "*a", "!!int", "<<",
    "- ", ": ", ":=", "#", "%", "\\ ", "\u{FEFF}", "\r\n", "\t", "\u{2028}", "🙂", "|", ">", "?",
  ]

  /// A changed text; `other` lends tokens.
  static func mutate(_ seed: [UInt8], other: [UInt8], _ random: inout Random) -> [UInt8] {
    var tokens = split(seed)
    let lent = split(other)
    for _ in 0...random.below(random.one(in: 3) ? 8 : 3) {
      guard !tokens.isEmpty else { return other }
      let place = random.below(tokens.count)
      let length = min(1 + random.below(random.one(in: 4) ? 30 : 3), tokens.count - place)
      switch random.below(10) {
      case 0: tokens.remove(at: place)
      case 1: tokens.removeSubrange(place..<place + length)
      case 2: tokens.insert(contentsOf: tokens[place..<place + length], at: random.below(tokens.count))
      case 3: tokens.swapAt(place, random.below(tokens.count))
      case 4:
        let start = random.below(lent.count)
        tokens.replaceSubrange(place..<place + length, with: lent[start..<min(start + length, lent.count)])
      case 5: tokens[place] = Array(words[random.below(words.count)].utf8)
      case 6: ByteMutator.mutate(&tokens[place], &random)
      case 7 where random.one(in: 10):
        let deep = 1 << random.below(15)
        tokens[place] = [UInt8](repeating: [0x5B, 0x7B, 0x28, 0x2D][random.below(4)], count: deep)
      default:
        // A token of the same class, most often another number.
        let numeric = tokens.indices.filter { isNumber(tokens[$0]) }
        if let index = random.pick(numeric) {
          tokens[index] = Array(numbers[random.below(numbers.count)].utf8)
        } else {
          tokens[place] = random.pick(lent) ?? []
        }
      }
    }
    return Array(tokens.joined())
  }

  private static func isNumber(_ token: [UInt8]) -> Bool {
    guard let first = token.first else { return false }
    return (0x30...0x39).contains(first) || (first == 0x2D && token.count > 1)
  }

  /// Texts in quotes, words and numbers, single signs.
  private static func split(_ text: [UInt8]) -> [[UInt8]] {
    var tokens: [[UInt8]] = []
    var position = 0
    func isWord(_ byte: UInt8) -> Bool {
      (0x30...0x39).contains(byte) || (0x41...0x5A).contains(byte) || (0x61...0x7A).contains(byte) || byte >= 0x80
        || byte == 0x5F || byte == 0x2E || byte == 0x2D || byte == 0x2B
    }
    while position < text.count {
      let start = position
      position += 1
      if text[start] == 0x22 {
        while position < text.count, text[position] != 0x22 { position += text[position] == 0x5C ? 2 : 1 }
        position = min(position + 1, text.count)
      } else if isWord(text[start]) {
        while position < text.count, isWord(text[position]) { position += 1 }
      }
      tokens.append(Array(text[start..<position]))
    }
    return tokens
  }
}
