import Foundation

/// A ratio of noise to signal as signal to noise in dB: infinite for 0.
public func decibels(noiseRatio: Double) -> Double {
  noiseRatio > 0 ? -10 * log10(noiseRatio) : noiseRatio == 0 ? .infinity : .nan
}

/// The ratio of noise to signal of a number of dB.
public func noiseRatio(decibels: Double) -> Double { pow(10, -decibels / 10) }
