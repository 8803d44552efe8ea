// A sum of two numbers in a carry chain of its own. Left to itself, Yosys makes one carry chain of a sum of several numbers, and
// LUTs in front of it that make two numbers of three: on the ECP5, whose carry chains have room for the addition itself, that
// takes half as much again.

(* techmap_celltype = "$add" *)
module _add_in_one_chain (A, B, Y);
    parameter A_SIGNED = 0, B_SIGNED = 0, A_WIDTH = 1, B_WIDTH = 1, Y_WIDTH = 1;
    input [A_WIDTH-1:0] A;
    input [B_WIDTH-1:0] B;
    output [Y_WIDTH-1:0] Y;
    wire [Y_WIDTH-1:0] X, CO;
    \$alu #(.A_SIGNED(A_SIGNED), .B_SIGNED(B_SIGNED), .A_WIDTH(A_WIDTH), .B_WIDTH(B_WIDTH), .Y_WIDTH(Y_WIDTH))
    _TECHMAP_REPLACE_ (.A(A), .B(B), .CI(1'b0), .BI(1'b0), .Y(Y), .X(X), .CO(CO));
endmodule
