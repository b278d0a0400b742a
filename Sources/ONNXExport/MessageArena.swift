internal import COnnxProto
import IR

/// Memory of protobuf messages while a model is packed; all of it is given back with the arena.
final class MessageArena {
  private var blocks: [UnsafeMutableRawPointer] = []

  deinit { for block in blocks { block.deallocate() } }

  /// Room for a message, holding `value`: a C struct (those with unions are not marked as trivial).
  func make<Message>(_ value: Message) -> UnsafeMutablePointer<Message> {
    let place = UnsafeMutablePointer<Message>.allocate(capacity: 1)
    place.initialize(to: value)
    blocks.append(UnsafeMutableRawPointer(place))
    return place
  }

  /// A C array, nil for an empty one.
  func array<Element: BitwiseCopyable>(_ items: [Element]) -> UnsafeMutablePointer<Element>? {
    guard !items.isEmpty else { return nil }
    let place = UnsafeMutablePointer<Element>.allocate(capacity: items.count)
    place.initialize(from: items, count: items.count)
    blocks.append(UnsafeMutableRawPointer(place))
    return place
  }

  /// A C string.
  func text(_ text: String) -> UnsafeMutablePointer<CChar> {
    let bytes = text.utf8.map { CChar(bitPattern: $0) } + [0]
    let place = UnsafeMutablePointer<CChar>.allocate(capacity: bytes.count)
    place.initialize(from: bytes, count: bytes.count)
    blocks.append(UnsafeMutableRawPointer(place))
    return place
  }

  /// A C array of C strings.
  func texts(_ list: [String]) -> UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>? {
    array(list.map { text($0) })
  }
}
