// A product in a DSP block of UltraScale+, as Yosys packs it: Yosys finds registers, and an adder behind the product, for the block
// of the generation before, DSP48E1. That of UltraScale+ has the same ones behind a product of two bits more. So products become a
// DSP48E1 with the wider product, and are renamed when all is packed. For counting: nothing else is made of them.

module \$__MUL27X18 (input [26:0] A, input [17:0] B, output [44:0] Y);
    parameter A_SIGNED = 0, B_SIGNED = 0, A_WIDTH = 0, B_WIDTH = 0, Y_WIDTH = 0;
    wire [47:0] P;
    assign Y = P;
    DSP48E1 #(
        .AREG(0), .BREG(0), .CREG(0), .DREG(0), .ADREG(0), .MREG(0), .PREG(0), .ACASCREG(0), .BCASCREG(0),
        .ALUMODEREG(0), .CARRYINREG(0), .CARRYINSELREG(0), .INMODEREG(0), .OPMODEREG(0),
        .A_INPUT("DIRECT"), .B_INPUT("DIRECT"), .USE_MULT("MULTIPLY"), .USE_SIMD("ONE48"), .USE_DPORT("FALSE")
    ) _TECHMAP_REPLACE_ (
        .A({{3{A[26]}}, A}), .B(B), .C(48'b0), .D(25'b0), .P(P), .CARRYIN(1'b0), .CARRYINSEL(3'b000),
        // The product alone: X and Y are its two halves, Z is zero.
        .OPMODE(7'b0000101), .ALUMODE(4'b0000), .INMODE(5'b00000), .ACIN(30'b0), .BCIN(18'b0), .PCIN(48'b0)
    );
endmodule
