/// `value` with a fixed number of decimals, without locale; words for what is no finite number.
public func fixed(_ value: Double, digits: Int) -> String {
  guard value.isFinite, abs(value) < 1e15 else { return "\(value)" }
  var factor = 1.0
  for _ in 0..<digits { factor *= 10 }
  let scaled = (abs(value) * factor).rounded(.toNearestOrEven)
  guard scaled < 9e15 else { return "\(value)" }
  let units = Int(scaled)
  let sign = value < 0 && units > 0 ? "-" : ""
  if digits == 0 { return "\(sign)\(units)" }
  let fraction = String(units % Int(factor))
  let zeros = String(repeating: "0", count: digits - fraction.count)
  return "\(sign)\(units / Int(factor)).\(zeros)\(fraction)"
}

/// A number of bytes for people: `999 B`, `1.21 MB` (decimal units).
public func byteText(_ count: Int) -> String {
  if count < 1000 { return "\(count) B" }
  var value = Double(count)
  var unit = 0
  let units = ["B", "kB", "MB", "GB", "TB", "PB", "EB"]
  while value >= 999.5, unit + 1 < units.count {
    value /= 1000
    unit += 1
  }
  return "\(fixed(value, digits: value < 10 ? 2 : value < 100 ? 1 : 0)) \(units[unit])"
}

/// A whole number with separators between thousands: `1,234,567`.
public func grouped(_ count: Int) -> String {
  let digits = String(count.magnitude)
  var text = ""
  for (index, digit) in digits.enumerated() {
    if index > 0, (digits.count - index) % 3 == 0 { text += "," }
    text.append(digit)
  }
  return count < 0 ? "-\(text)" : text
}
